# Reward models: a backbone x an objective, the seeds of one batch in one process, because starting
# a process costs as much as training a tiny model. On a cluster a batch is one seed.

for batch in SEED_BATCHES:

    rule:
        name:
            f"reward_models_{batch[0]}"
        input:
            backbone=at("backbone"),
            train=pairs_of,
            held_out=held_out_of,
        output:
            expand(
                f"{RUN}/reward_models/{{{{backbone}}}}/{{{{objective}}}}/seed-{{seed}}/{{file}}",
                seed=batch,
                file=[
                    "model.safetensors",
                    "probes.parquet",
                    "record.json",
                    "README.md",
                ],
            ),
        log:
            f"logs/{config['preset']}/reward_models/{{backbone}}/{{objective}}/seed-{batch[0]}.log",
        benchmark:
            f"{RUN}/benchmarks/reward_models/{{backbone}}/{{objective}}/seed-{batch[0]}.tsv"
        wildcard_constraints:
            backbone=trained_here("reward_models/"),
        # The longest jobs first, so that no core idles at the end.
        priority: 2
        conda:
            "../../environment.yml"
        resources:
            **on_cluster("reward_model", "backbone", len(batch)),
        params:
            settings=settings("reward_model"),
            seeds=batch,
            backbone=subpath(input.backbone, parent=True),
            folder=f"{RUN}/reward_models/{{backbone}}/{{objective}}",
            work=f"{RUN}/work/reward_models/{{backbone}}/{{objective}}",
        shell:
            "rm-robustness train --settings {params.settings:q} --backbone {params.backbone}"
            " --train {input.train} --held-out {input.held_out} --seeds {params.seeds}"
            " --work {params.work} --output {params.folder} > {log} 2>&1"
