# Raw data: responses, the language model's conversations, pretrained models. All downloads are
# here, in rules that run where Snakemake runs (a cluster's login node); no other verb goes online.

SOURCE = config["sources"][config["responses"]["source"]]
ASKED = {
    k: v for k, v in config["responses"].items() if k not in ("source", "generate")
}


localrules:
    responses,
    chats,
    preferences,
    rm_bench,
    instructions,
    pretrained,


rule responses:
    output:
        frame=f"{RUN}/raw/responses.parquet",
        record=f"{RUN}/raw/responses.record.json",
    log:
        f"logs/{config['preset']}/responses.log",
    conda:
        "../../environment.yml"
    params:
        settings=settings(SOURCE, ASKED),
    shell:
        "rm-robustness responses --settings {params.settings:q} --output {output.frame}"
        " 2>&1 | tee {log}"


rule chats:
    output:
        frame=f"{RUN}/raw/chats/{{source}}.parquet",
        record=f"{RUN}/raw/chats/{{source}}.record.json",
    log:
        f"logs/{config['preset']}/chats/{{source}}.log",
    conda:
        "../../environment.yml"
    params:
        settings=lambda wildcards: settings(config["sources"][wildcards.source]),
    shell:
        "rm-robustness chats --settings {params.settings:q} --output {output.frame}"
        " 2>&1 | tee {log}"


rule preferences:
    output:
        frame=f"{RUN}/raw/preferences/{{source}}.parquet",
        record=f"{RUN}/raw/preferences/{{source}}.record.json",
    log:
        f"logs/{config['preset']}/preferences/{{source}}.log",
    conda:
        "../../environment.yml"
    params:
        settings=lambda wildcards: settings(config["sources"][wildcards.source]),
    shell:
        "rm-robustness preferences --settings {params.settings:q} --output {output.frame}"
        " 2>&1 | tee {log}"


if BENCH:

    rule rm_bench:
        output:
            frame=f"{RUN}/raw/rm_bench.parquet",
            record=f"{RUN}/raw/rm_bench.record.json",
        log:
            f"logs/{config['preset']}/rm_bench.log",
        conda:
            "../../environment.yml"
        params:
            settings=settings(config["sources"][BENCH["source"]]),
        shell:
            "rm-robustness rm_bench --settings {params.settings:q} --output {output.frame}"
            " 2>&1 | tee {log}"


if JUDGED:

    rule instructions:
        output:
            f"{RUN}/raw/alpaca_eval/instructions.parquet",
            f"{RUN}/raw/alpaca_eval/df_gamed.csv",
            f"{RUN}/raw/alpaca_eval/record.json",
        log:
            f"logs/{config['preset']}/instructions.log",
        conda:
            "../../environment.yml"
        params:
            settings=settings(config["sources"][JUDGED["source"]]),
            folder=subpath(output[0], parent=True),
        shell:
            "rm-robustness instructions --settings {params.settings:q} --output {params.folder}"
            " 2>&1 | tee {log}"


rule pretrained:
    output:
        f"{RUN}/pretrained/{{model}}/manifest.json",
        f"{RUN}/pretrained/{{model}}/manifest.record.json",
    log:
        f"logs/{config['preset']}/pretrained/{{model}}.log",
    wildcard_constraints:
        model=".+",
    conda:
        "../../environment.yml"
    params:
        settings=lambda wildcards: settings(origin_of(wildcards.model)),
        folder=subpath(output[0], parent=True),
    shell:
        "rm-robustness pretrained --settings {params.settings:q} --output {params.folder}"
        " 2>&1 | tee {log}"


RAW = [
    path
    for job in jobs.jobs(config)
    if job.phase == "downloads" and job.rule != "pretrained"
    for path in expand(getattr(rules, job.rule).output, source=job.name)
]
