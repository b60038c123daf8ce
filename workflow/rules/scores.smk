# Scores of every reward model: the four scenarios, and RM-Bench with the effective ranks. Tables
# and figures about reward models are computed from these alone.


rule score:
    input:
        model=at("reward_model"),
        splits=expand(at("split"), split=SCENARIOS),
    output:
        scores=[at("scores", split=split) for split in SCENARIOS],
        record=record("scores"),
    log:
        f"logs/{config['preset']}/scores/{{backbone}}/{{objective}}/seed-{{seed}}.log",
    benchmark:
        f"{RUN}/benchmarks/scores/{{backbone}}/{{objective}}/seed-{{seed}}.tsv"
    conda:
        "../../environment.yml"
    resources:
        **on_cluster("scores", "backbone"),
    params:
        batch_tokens=config["scoring"]["batch_tokens"],
        model=subpath(input.model, parent=True),
    shell:
        "rm-robustness score --model {params.model} --data {input.splits}"
        " --batch-tokens {params.batch_tokens} --output {output.scores} > {log} 2>&1"


for benchmark in BENCHMARKS:
    kind = f"{benchmark}_scores"

    rule:
        name:
            kind
        input:
            model=at("reward_model"),
            bench=at("benchmark", benchmark=benchmark),
        output:
            scores=at("benchmark_scores", benchmark=benchmark),
            record=record("benchmark_scores", benchmark=benchmark),
        log:
            f"logs/{config['preset']}/{kind}/{{backbone}}/{{objective}}/seed-{{seed}}.log",
        benchmark:
            f"{RUN}/benchmarks/{kind}/{{backbone}}/{{objective}}/seed-{{seed}}.tsv"
        conda:
            "../../environment.yml"
        resources:
            **on_cluster(kind, "backbone"),
        params:
            batch_tokens=config["scoring"]["batch_tokens"],
            model=subpath(input.model, parent=True),
        shell:
            "rm-robustness score --model {params.model} --data {input.bench}"
            " --batch-tokens {params.batch_tokens} --output {output.scores} > {log} 2>&1"


if config["ranks"]:

    rule ranks:
        input:
            model=at("reward_model"),
            train=pairs_of,
            bench=at("benchmark", benchmark="rm_bench"),
        output:
            ranks=at("ranks"),
            record=record("ranks"),
        log:
            f"logs/{config['preset']}/ranks/{{backbone}}/{{objective}}/seed-{{seed}}.log",
        benchmark:
            f"{RUN}/benchmarks/ranks/{{backbone}}/{{objective}}/seed-{{seed}}.tsv"
        conda:
            "../../environment.yml"
        resources:
            **on_cluster("ranks", "backbone"),
        params:
            settings=settings("ranks"),
            model=subpath(input.model, parent=True),
        shell:
            "rm-robustness ranks --settings {params.settings:q} --model {params.model}"
            " --train {input.train} --rm-bench {input.bench} --output {output.ranks}"
            " > {log} 2>&1"
