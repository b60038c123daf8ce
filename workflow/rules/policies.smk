# Policies: RLOO from a backbone against reward models, with periodic evaluation, the seeds of one
# batch in one process; then the gold rewards of the samples, by the preset's gold or by reward models
# of the run itself (rloo.gold).

for batch in POLICY_BATCHES:

    rule:
        name:
            f"rloo_{batch[0]}"
        input:
            policy=lambda wildcards: at(
                "backbone", backbone=POLICIES[wildcards.policy]["policy"]
            ),
            reward_models=proxy_reward_models(batch),
            prompts=at("split", split="prompt_disjoint"),
        output:
            expand(
                f"{RUN}/policies/{{{{policy}}}}/seed-{{seed}}/{{file}}",
                seed=batch,
                file=[
                    "model.safetensors",
                    "samples.parquet",
                    "record.json",
                    "README.md",
                ],
            ),
        log:
            f"logs/{config['preset']}/policies/{{policy}}/seed-{batch[0]}.log",
        benchmark:
            f"{RUN}/benchmarks/policies/{{policy}}/seed-{batch[0]}.tsv"
        wildcard_constraints:
            policy=trained_here("policies/", "|".join(POLICIES)),
        priority: 1
        conda:
            "../../environment.yml"
        resources:
            **on_cluster("rloo", "policy", len(batch)),
        params:
            settings=settings("policy"),
            seeds=batch,
            policy=subpath(input.policy, parent=True),
            reward_models=lambda wildcards, input: [
                str(Path(path).parent) for path in input.reward_models
            ],
            folder=f"{RUN}/policies/{{policy}}",
            work=f"{RUN}/work/policies/{{policy}}",
        shell:
            "rm-robustness rloo --settings {params.settings:q} --policy {params.policy}"
            " --reward-models {params.reward_models} --prompts {input.prompts}"
            " --seeds {params.seeds} --work {params.work} --output {params.folder} > {log} 2>&1"


if RLOO:

    rule policy_gold:
        input:
            model=SAMPLES_GOLD,
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
