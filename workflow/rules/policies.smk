# Policies: RLOO from a backbone against a reward model, looked at through training; then gold for
# what was seen.

for batch in POLICY_BATCHES:

    rule:
        name:
            f"policies_{batch[0]}"
        input:
            policy=lambda wildcards: f"{RUN}/backbones/{POLICIES[wildcards.policy]['policy']}/model.safetensors",
            reward_models=lambda wildcards, seeds=tuple(batch): [
                f"{RUN}/reward_models/{POLICIES[wildcards.policy]['reward_models'][seed]}/model.safetensors"
                for seed in seeds
            ],
            prompts=f"{RUN}/splits/prompt_disjoint.parquet",
        output:
            expand(
                f"{RUN}/policies/{{{{policy}}}}/seed-{{seed}}/{{file}}",
                seed=batch,
                file=[
                    "model.safetensors",
                    "looks.parquet",
                    "record.json",
                    "README.md",
                ],
            ),
        log:
            f"logs/{config['preset']}/policies/{{policy}}/seed-{batch[0]}.log",
        benchmark:
            f"{RUN}/benchmarks/policies/{{policy}}/seed-{batch[0]}.tsv"
        priority: 1
        conda:
            "../../environment.yml"
        resources:
            **on_cluster("rloo", "policy", len(batch)),
        params:
            settings=lambda wildcards: settings(
                configuration.policy_settings(config, wildcards.policy)
            ),
            seeds=batch,
            policy=subpath(input.policy, parent=True),
            reward_models=lambda wildcards, input: folders(input.reward_models),
            folder=f"{RUN}/policies/{{policy}}",
            work=f"{RUN}/work/policies/{{policy}}",
        shell:
            "rm-robustness rloo --settings {params.settings:q} --policy {params.policy}"
            " --reward-models {params.reward_models} --prompts {input.prompts}"
            " --seeds {params.seeds} --work {params.work} --output {params.folder} 2>&1 | tee {log}"


if RLOO:

    rule looks:
        input:
            model=GOLD_MODEL,
            responses=expand(
                f"{RUN}/policies/{{{{policy}}}}/seed-{{seed}}/looks.parquet",
                seed=RLOO["seeds"],
            ),
        output:
            f"{RUN}/looks/{{policy}}.parquet",
        log:
            f"logs/{config['preset']}/looks/{{policy}}.log",
        benchmark:
            f"{RUN}/benchmarks/looks/{{policy}}.tsv"
        conda:
            "../../environment.yml"
        resources:
            **on_cluster("looks", "policy", len(RLOO["seeds"])),
        params:
            settings=settings(gold_settings()),
        shell:
            "rm-robustness gold --settings {params.settings:q} --responses {input.responses}"
            " --output {output} 2>&1 | tee {log}"
