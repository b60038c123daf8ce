# Policies: RLOO from a backbone against a reward model, with periodic evaluation; then the gold
# rewards of the samples.

if RLOO:

    rule rloo:
        input:
            policy=lambda wildcards: at(
                "backbone", backbone=POLICIES[wildcards.policy]["policy"]
            ),
            reward_model=proxy_reward_model,
            prompts=at("split", split="prompt_disjoint"),
        output:
            multiext(
                f"{RUN}/policies/{{policy}}/seed-{{seed}}/",
                "model.safetensors",
                "samples.parquet",
                "record.json",
                "README.md",
            ),
        log:
            f"logs/{config['preset']}/policies/{{policy}}/seed-{{seed}}.log",
        benchmark:
            f"{RUN}/benchmarks/policies/{{policy}}/seed-{{seed}}.tsv"
        wildcard_constraints:
            policy=trained_here("policies/", "|".join(POLICIES)),
        priority: 1
        conda:
            "../../environment.yml"
        resources:
            **on_cluster("rloo", "policy"),
        params:
            settings=settings("policy"),
            policy=subpath(input.policy, parent=True),
            reward_model=subpath(input.reward_model, parent=True),
            folder=subpath(output[0], parent=True),
            work=f"{RUN}/work/policies/{{policy}}/seed-{{seed}}",
        shell:
            "rm-robustness rloo --settings {params.settings:q} --policy {params.policy}"
            " --reward-model {params.reward_model} --prompts {input.prompts}"
            " --seed {wildcards.seed} --work {params.work} --output {params.folder} > {log} 2>&1"

    rule policy_gold:
        input:
            model=GOLD_MODEL,
            responses=[at("samples", seed=seed) for seed in RLOO["seeds"]],
        output:
            gold=at("policy_gold"),
            record=record("policy_gold"),
        log:
            f"logs/{config['preset']}/policy_gold/{{policy}}.log",
        benchmark:
            f"{RUN}/benchmarks/policy_gold/{{policy}}.tsv"
        conda:
            "../../environment.yml"
        resources:
            **on_cluster("policy_gold", "policy", len(RLOO["seeds"])),
        params:
            settings=settings("policy_gold"),
        shell:
            "rm-robustness gold --settings {params.settings:q} --responses {input.responses}"
            " --output {output.gold} > {log} 2>&1"
