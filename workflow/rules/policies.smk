# Policies: RLOO from a backbone against a reward model, looked at through training; then gold for
# what was seen.

if RLOO:

    rule rloo:
        input:
            policy=lambda wildcards: f"{RUN}/backbones/{POLICIES[wildcards.policy]['policy']}/model.safetensors",
            reward_model=lambda wildcards: reward_model_behind(
                wildcards.policy, int(wildcards.seed)
            ),
            prompts=f"{RUN}/splits/prompt_disjoint.parquet",
        output:
            multiext(
                f"{RUN}/policies/{{policy}}/seed-{{seed}}/",
                "model.safetensors",
                "looks.parquet",
                "record.json",
                "README.md",
            ),
        log:
            f"logs/{config['preset']}/policies/{{policy}}/seed-{{seed}}.log",
        benchmark:
            f"{RUN}/benchmarks/policies/{{policy}}/seed-{{seed}}.tsv"
        wildcard_constraints:
            policy=made("policies/", "|".join(POLICIES)),
        priority: 1
        conda:
            "../../environment.yml"
        resources:
            **on_cluster("rloo", "policy"),
        params:
            settings=lambda wildcards: settings(
                configuration.policy_settings(config, wildcards.policy)
            ),
            policy=subpath(input.policy, parent=True),
            reward_model=subpath(input.reward_model, parent=True),
            folder=subpath(output[0], parent=True),
            work=f"{RUN}/work/policies/{{policy}}/seed-{{seed}}",
        shell:
            "rm-robustness rloo --settings {params.settings:q} --policy {params.policy}"
            " --reward-model {params.reward_model} --prompts {input.prompts}"
            " --seed {wildcards.seed} --work {params.work} --output {params.folder} 2>&1 | tee {log}"

    rule looks:
        input:
            model=GOLD_MODEL,
            responses=expand(
                f"{RUN}/policies/{{{{policy}}}}/seed-{{seed}}/looks.parquet",
                seed=RLOO["seeds"],
            ),
        output:
            gold=f"{RUN}/looks/{{policy}}.parquet",
            record=f"{RUN}/looks/{{policy}}.record.json",
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
            " --output {output.gold} 2>&1 | tee {log}"
