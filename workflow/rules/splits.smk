# Responses of the unseen models where they must be generated, gold labels, and the splits.

GENERATED = grid.generated_models(config)


if GENERATED:
    # An external server needs no download, and its requests are sent by a localrule.
    EXTERNAL = grid.uses_external_server(config)

    rule generate:
        input:
            responses=at("responses"),
            model=[] if EXTERNAL else at("pretrained", model="{response_model}"),
        output:
            frame=at("generated"),
            record=record("generate"),
        log:
            f"logs/{config['preset']}/generate/{{response_model}}.log",
        benchmark:
            f"{RUN}/benchmarks/generate/{{response_model}}.tsv"
        localrule: EXTERNAL
        conda:
            "../../environment.yml"
        resources:
            **on_cluster("generate", "response_model"),
        params:
            settings=settings("generate"),
        shell:
            "rm-robustness generate --settings {params.settings:q} --prompts {input.responses}"
            " --output {output.frame} > {log} 2>&1"


rule gold:
    input:
        model=GOLD_MODEL,
        responses=[
            at("responses"),
            *expand(at("generated"), response_model=GENERATED),
        ],
    output:
        frame=at("gold"),
        record=record("gold"),
    log:
        f"logs/{config['preset']}/gold.log",
    benchmark:
        f"{RUN}/benchmarks/gold.tsv"
    conda:
        "../../environment.yml"
    resources:
        **on_cluster("gold"),
    params:
        settings=settings("gold"),
    shell:
        "rm-robustness gold --settings {params.settings:q} --responses {input.responses}"
        " --output {output.frame} > {log} 2>&1"


if not SPLITS_RELEASED:

    rule splits:
        input:
            rules.gold.output.frame,
        output:
            expand(at("split"), split=grid.split_names(config)),
            manifest=at("splits_manifest"),
            record=record("splits"),
        log:
            f"logs/{config['preset']}/splits.log",
        conda:
            "../../environment.yml"
        params:
            settings=settings("splits"),
            folder=subpath(output.manifest, parent=True),
        shell:
            "rm-robustness splits --settings {params.settings:q} --gold {input}"
            " --output {params.folder} > {log} 2>&1"
