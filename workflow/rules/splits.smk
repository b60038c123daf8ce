# Responses of the unseen models where they must be generated, gold labels, and the splits.

GENERATED = (
    sorted(config["responses"]["generate"]["models"])
    if config["responses"]["generate"]
    else []
)


if GENERATED:

    rule generate:
        input:
            f"{RUN}/raw/responses.parquet",
        output:
            f"{RUN}/raw/generated/{{response_model}}.parquet",
        log:
            f"logs/{config['preset']}/generate/{{response_model}}.log",
        benchmark:
            f"{RUN}/benchmarks/generate/{{response_model}}.tsv"
        conda:
            "../../environment.yml"
        params:
            settings=lambda wildcards: settings(
                config["responses"]["generate"]["options"],
                config["responses"]["generate"]["models"][wildcards.response_model],
                name=wildcards.response_model,
            ),
        shell:
            "rm-robustness generate --settings {params.settings:q} --prompts {input}"
            " --output {output} 2>&1 | tee {log}"


rule gold:
    input:
        f"{RUN}/raw/responses.parquet",
        expand(f"{RUN}/raw/generated/{{model}}.parquet", model=GENERATED),
    output:
        f"{RUN}/raw/gold.parquet",
    log:
        f"logs/{config['preset']}/gold.log",
    benchmark:
        f"{RUN}/benchmarks/gold.tsv"
    conda:
        "../../environment.yml"
    params:
        settings=settings(config["gold"]),
    shell:
        "rm-robustness gold --settings {params.settings:q} --responses {input}"
        " --output {output} 2>&1 | tee {log}"


rule splits:
    input:
        rules.gold.output,
    output:
        expand(f"{RUN}/splits/{{split}}.parquet", split=["train", *SCENARIOS]),
        manifest=f"{RUN}/splits/manifest.json",
    log:
        f"logs/{config['preset']}/splits.log",
    conda:
        "../../environment.yml"
    params:
        settings=settings(ASKED, config["splits"]),
        folder=subpath(output.manifest, parent=True),
    shell:
        "rm-robustness splits --settings {params.settings:q} --gold {input}"
        " --output {params.folder} 2>&1 | tee {log}"
