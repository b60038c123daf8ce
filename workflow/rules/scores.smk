# Scores of every reward model: the four scenarios, and RM-Bench with the effective ranks. No table
# or figure about reward models touches a model after this.

MODEL = (
    f"{RUN}/reward_models/{{backbone}}/{{objective}}/seed-{{seed}}/model.safetensors"
)


rule score:
    input:
        model=MODEL,
        splits=expand(f"{RUN}/splits/{{split}}.parquet", split=SCENARIOS),
    output:
        scores=expand(
            f"{RUN}/scores/{{{{backbone}}}}/{{{{objective}}}}/seed-{{{{seed}}}}/{{split}}.parquet",
            split=SCENARIOS,
        ),
        record=f"{RUN}/scores/{{backbone}}/{{objective}}/seed-{{seed}}/record.json",
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
        " --batch-tokens {params.batch_tokens} --output {output.scores} 2>&1 | tee {log}"


if BENCH:

    rule rm_bench_scores:
        input:
            model=MODEL,
            bench=rules.rm_bench.output.frame,
        output:
            scores=f"{RUN}/scores/{{backbone}}/{{objective}}/seed-{{seed}}/rm_bench.parquet",
            record=f"{RUN}/scores/{{backbone}}/{{objective}}/seed-{{seed}}/rm_bench.record.json",
        log:
            f"logs/{config['preset']}/rm_bench_scores/{{backbone}}/{{objective}}/seed-{{seed}}.log",
        benchmark:
            f"{RUN}/benchmarks/rm_bench_scores/{{backbone}}/{{objective}}/seed-{{seed}}.tsv"
        conda:
            "../../environment.yml"
        resources:
            **on_cluster("rm_bench_scores", "backbone"),
        params:
            batch_tokens=config["scoring"]["batch_tokens"],
            model=subpath(input.model, parent=True),
        shell:
            "rm-robustness score --model {params.model} --data {input.bench}"
            " --batch-tokens {params.batch_tokens} --output {output.scores} 2>&1 | tee {log}"


if config["ranks"]:

    rule ranks:
        input:
            model=MODEL,
            train=f"{RUN}/splits/train.parquet",
            bench=rules.rm_bench.output.frame,
        output:
            ranks=f"{RUN}/ranks/{{backbone}}/{{objective}}/seed-{{seed}}.parquet",
            record=f"{RUN}/ranks/{{backbone}}/{{objective}}/seed-{{seed}}.record.json",
        log:
            f"logs/{config['preset']}/ranks/{{backbone}}/{{objective}}/seed-{{seed}}.log",
        benchmark:
            f"{RUN}/benchmarks/ranks/{{backbone}}/{{objective}}/seed-{{seed}}.tsv"
        conda:
            "../../environment.yml"
        resources:
            **on_cluster("ranks", "backbone"),
        params:
            settings=settings(
                config["scoring"],
                rows=config["ranks"]["rows"],
                seed=config["statistics"]["seed"],
            ),
            model=subpath(input.model, parent=True),
        shell:
            "rm-robustness ranks --settings {params.settings:q} --model {params.model}"
            " --train {input.train} --rm-bench {input.bench} --output {output.ranks}"
            " 2>&1 | tee {log}"
