# Responses of the unseen models where they must be generated, gold labels, and the splits.

GENERATE = config["responses"]["generate"]
GENERATED = configuration.generating(config)


if GENERATED:
    # Nothing is downloaded for a server that runs already, and asking it is a local rule.
    ELSEWHERE = configuration.asks_elsewhere(config)

    rule generate:
        input:
            responses=f"{RUN}/raw/responses.parquet",
            model=[] if ELSEWHERE else pretrained("{response_model}"),
        output:
            frame=f"{RUN}/raw/generated/{{response_model}}.parquet",
            record=f"{RUN}/raw/generated/{{response_model}}.record.json",
        log:
            f"logs/{config['preset']}/generate/{{response_model}}.log",
        benchmark:
            f"{RUN}/benchmarks/generate/{{response_model}}.tsv"
        localrule: ELSEWHERE
        conda:
            "../../environment.yml"
        resources:
            **on_cluster("generate", "response_model"),
        params:
            settings=lambda wildcards: settings(
                GENERATE["options"],
                name=wildcards.response_model,
                model=(
                    origin_of(wildcards.response_model)["repo"]
                    if ELSEWHERE
                    else f"{RUN}/pretrained/{wildcards.response_model}/model"
                ),
            ),
        shell:
            "rm-robustness generate --settings {params.settings:q} --prompts {input.responses}"
            " --output {output.frame} 2>&1 | tee {log}"


rule gold:
    input:
        model=GOLD_MODEL,
        responses=[
            f"{RUN}/raw/responses.parquet",
            *expand(f"{RUN}/raw/generated/{{model}}.parquet", model=GENERATED),
        ],
    output:
        frame=f"{RUN}/raw/gold.parquet",
        record=f"{RUN}/raw/gold.record.json",
    log:
        f"logs/{config['preset']}/gold.log",
    benchmark:
        f"{RUN}/benchmarks/gold.tsv"
    conda:
        "../../environment.yml"
    resources:
        **on_cluster("gold"),
    params:
        settings=settings(gold_settings()),
    shell:
        "rm-robustness gold --settings {params.settings:q} --responses {input.responses}"
        " --output {output.frame} 2>&1 | tee {log}"


if not SPLITS_RELEASED:

    rule splits:
        input:
            rules.gold.output.frame,
        output:
            expand(f"{RUN}/splits/{{split}}.parquet", split=["train", *SCENARIOS]),
            manifest=f"{RUN}/splits/manifest.json",
            record=f"{RUN}/splits/record.json",
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
