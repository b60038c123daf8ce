# Scores: every scenario with every reward model. Nothing after this touches a model.

for batch in seed_batches():

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
        params:
            batch_tokens=config["scoring"]["batch_tokens"],
            models=lambda wildcards, input: [
                os.path.dirname(path) for path in input.models
            ],
        shell:
            "rm-robustness score --model {params.models} --data {input.splits}"
            " --batch-tokens {params.batch_tokens} --output {output} 2>&1 | tee {log}"
