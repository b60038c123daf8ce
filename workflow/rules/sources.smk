# Raw data: responses, the language model's conversations, pretrained models. All that needs a
# network is here, in rules that run where Snakemake runs (a cluster's login node).

SOURCE = config["sources"][config["responses"]["source"]]
ASKED = {
    k: v for k, v in config["responses"].items() if k not in ("source", "generate")
}


localrules:
    responses,
    chats,
    pretrained,


rule responses:
    output:
        f"{RUN}/raw/responses.parquet",
    log:
        f"logs/{config['preset']}/responses.log",
    conda:
        "../../environment.yml"
    params:
        settings=settings(SOURCE, ASKED),
    shell:
        "rm-robustness responses --settings {params.settings:q} --output {output} 2>&1 | tee {log}"


if config["sft"]:

    rule chats:
        output:
            f"{RUN}/raw/chats.parquet",
        log:
            f"logs/{config['preset']}/chats.log",
        conda:
            "../../environment.yml"
        params:
            settings=settings(config["sources"][config["sft"]["source"]]),
        shell:
            "rm-robustness chats --settings {params.settings:q} --output {output} 2>&1 | tee {log}"


rule pretrained:
    output:
        f"{RUN}/pretrained/{{backbone}}/manifest.json",
    log:
        f"logs/{config['preset']}/pretrained/{{backbone}}.log",
    conda:
        "../../environment.yml"
    params:
        settings=lambda wildcards: settings(backbone_of(wildcards)["init"]),
        folder=subpath(output[0], parent=True),
    shell:
        "rm-robustness pretrained --settings {params.settings:q} --output {params.folder}"
        " 2>&1 | tee {log}"
