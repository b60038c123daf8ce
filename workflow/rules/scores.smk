# All that is measured of reward models: scores of the four scenarios and of RM-Bench, effective ranks.
# A job loads each model once; it takes the seeds of a batch of which the same is measured. Tables and
# figures about reward models are computed from these files alone.

for measurement in MEASUREMENTS:
    what, seeds = measurement.what, measurement.seeds
    sets = SCENARIOS if "scenarios" in what else []
    benches = [name for name in BENCHMARKS if name in what]
    ranked = "ranks" in what

    rule:
        name:
            measurement.rule
        input:
            models=[at("reward_model", seed=seed) for seed in seeds],
            data=[
                *expand(at("split"), split=sets),
                *expand(at("benchmark"), benchmark=benches),
            ],
            train=pairs_of if ranked else [],
            bench=at("benchmark", benchmark="rm_bench") if ranked else [],
        output:
            [
                *[
                    at("scores", seed=seed, split=name)
                    for seed in seeds
                    for name in sets
                ],
                *[
                    at("benchmark_scores", seed=seed, benchmark=name)
                    for seed in seeds
                    for name in benches
                ],
                *[record("scores", seed=seed) for seed in seeds if sets or benches],
                *[at("ranks", seed=seed) for seed in seeds if ranked],
                *[record("ranks", seed=seed) for seed in seeds if ranked],
            ],
        log:
            f"logs/{config['preset']}/scores/{{backbone}}/{{objective}}/seed-{seeds[0]}.log",
        benchmark:
            f"{RUN}/benchmarks/scores/{{backbone}}/{{objective}}/seed-{seeds[0]}.tsv"
        wildcard_constraints:
            backbone=measured_here(measurement),
        conda:
            "../../environment.yml"
        resources:
            **on_cluster(measurement.kind, "backbone", len(seeds)),
        params:
            settings=settings("ranks" if ranked else "scores"),
            seeds=seeds,
            models=lambda wildcards, input: Path(input.models[0]).parents[1],
            ranked=lambda wildcards, input: (
                f"--ranks {input.train} {input.bench}" if input.train else ""
            ),
            folders=[
                f"{RUN}/{kind}/{{backbone}}/{{objective}}"
                for kind in (["scores", "ranks"] if ranked else ["scores"])
            ],
        shell:
            "rm-robustness measure --settings {params.settings:q} --models {params.models}"
            " --seeds {params.seeds} --data {input.data} {params.ranked}"
            " --output {params.folders} > {log} 2>&1"
