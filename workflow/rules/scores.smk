# Scores of every reward model: the four scenarios, and RM-Bench with the effective ranks. No table
# or figure about reward models touches a model after this.

for batch in SEED_BATCHES:

    rule:
        name:
            f"scores_{batch[0]}"
        input:
            models=expand(
                f"{RUN}/reward_models/{{{{backbone}}}}/{{{{objective}}}}/seed-{{seed}}/model.safetensors",
                seed=batch,
            ),
            splits=expand(f"{RUN}/splits/{{split}}.parquet", split=SCENARIOS),
        output:
            expand(
                f"{RUN}/scores/{{{{backbone}}}}/{{{{objective}}}}/seed-{{seed}}/{{split}}.parquet",
                seed=batch,
                split=SCENARIOS,
            ),
        log:
            f"logs/{config['preset']}/scores/{{backbone}}/{{objective}}/seed-{batch[0]}.log",
        benchmark:
            f"{RUN}/benchmarks/scores/{{backbone}}/{{objective}}/seed-{batch[0]}.tsv"
        conda:
            "../../environment.yml"
        resources:
            **on_cluster("scores", "backbone", len(batch)),
        params:
            batch_tokens=config["scoring"]["batch_tokens"],
            models=lambda wildcards, input: folders(input.models),
        shell:
            "rm-robustness score --model {params.models} --data {input.splits}"
            " --batch-tokens {params.batch_tokens} --output {output} 2>&1 | tee {log}"


for batch in BENCH_BATCHES:

    rule:
        name:
            f"rm_bench_scores_{batch[0]}"
        input:
            models=expand(
                f"{RUN}/reward_models/{{{{backbone}}}}/{{{{objective}}}}/seed-{{seed}}/model.safetensors",
                seed=batch,
            ),
            bench=rules.rm_bench.output,
        output:
            expand(
                f"{RUN}/scores/{{{{backbone}}}}/{{{{objective}}}}/seed-{{seed}}/rm_bench.parquet",
                seed=batch,
            ),
        log:
            f"logs/{config['preset']}/rm_bench_scores/{{backbone}}/{{objective}}/seed-{batch[0]}.log",
        benchmark:
            f"{RUN}/benchmarks/rm_bench_scores/{{backbone}}/{{objective}}/seed-{batch[0]}.tsv"
        conda:
            "../../environment.yml"
        resources:
            **on_cluster("rm_bench_scores", "backbone", len(batch)),
        params:
            batch_tokens=config["scoring"]["batch_tokens"],
            models=lambda wildcards, input: folders(input.models),
        shell:
            "rm-robustness score --model {params.models} --data {input.bench}"
            " --batch-tokens {params.batch_tokens} --output {output} 2>&1 | tee {log}"

    if config["ranks"]:

        rule:
            name:
                f"ranks_{batch[0]}"
            input:
                models=expand(
                    f"{RUN}/reward_models/{{{{backbone}}}}/{{{{objective}}}}/seed-{{seed}}/model.safetensors",
                    seed=batch,
                ),
                train=f"{RUN}/splits/train.parquet",
                bench=rules.rm_bench.output,
            output:
                expand(
                    f"{RUN}/ranks/{{{{backbone}}}}/{{{{objective}}}}/seed-{{seed}}.parquet",
                    seed=batch,
                ),
            log:
                f"logs/{config['preset']}/ranks/{{backbone}}/{{objective}}/seed-{batch[0]}.log",
            benchmark:
                f"{RUN}/benchmarks/ranks/{{backbone}}/{{objective}}/seed-{batch[0]}.tsv"
            conda:
                "../../environment.yml"
            resources:
                **on_cluster("ranks", "backbone", len(batch)),
            params:
                settings=settings(
                    config["scoring"],
                    rows=config["ranks"]["rows"],
                    seed=config["statistics"]["seed"],
                ),
                models=lambda wildcards, input: folders(input.models),
            shell:
                "rm-robustness ranks --settings {params.settings:q} --model {params.models}"
                " --train {input.train} --rm-bench {input.bench} --output {output} 2>&1 | tee {log}"
