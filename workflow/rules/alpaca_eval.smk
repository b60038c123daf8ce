# AlpacaEval 2.0: the SFT model and the policies answer its instructions; the judge compares every
# answer with the baseline's, all in one job, so that it is asked for each only once.

if JUDGED:

    rule answers:
        input:
            models=lambda wildcards: answering(wildcards.policy),
            instructions=f"{RUN}/raw/alpaca_eval/instructions.parquet",
        output:
            expand(
                f"{RUN}/alpaca_eval/outputs/{{{{policy}}}}/seed-{{seed}}.parquet",
                seed=JUDGED["seeds"],
            ),
        log:
            f"logs/{config['preset']}/answers/{{policy}}.log",
        benchmark:
            f"{RUN}/benchmarks/answers/{{policy}}.tsv"
        conda:
            "../../environment.yml"
        resources:
            **on_cluster("answers", "policy", len(JUDGED["seeds"])),
        params:
            settings=settings(JUDGED["generation"]),
            models=lambda wildcards, input: folders(input.models),
        shell:
            "rm-robustness answers --settings {params.settings:q} --model {params.models}"
            " --instructions {input.instructions} --output {output} 2>&1 | tee {log}"

    rule answers_sft:
        input:
            model=answering("sft"),
            instructions=f"{RUN}/raw/alpaca_eval/instructions.parquet",
        output:
            f"{RUN}/alpaca_eval/outputs/sft/seed-0.parquet",
        log:
            f"logs/{config['preset']}/answers/sft.log",
        benchmark:
            f"{RUN}/benchmarks/answers/sft.tsv"
        conda:
            "../../environment.yml"
        resources:
            **on_cluster("answers", "sft"),
        params:
            settings=settings(JUDGED["generation"]),
            model=lambda wildcards, input: folders(input.model),
        shell:
            "rm-robustness answers --settings {params.settings:q} --model {params.model}"
            " --instructions {input.instructions} --output {output} 2>&1 | tee {log}"


if JUDGED and JUDGED["judge"]:

    rule judge:
        input:
            instructions=f"{RUN}/raw/alpaca_eval/instructions.parquet",
            answers=ANSWERS,
        output:
            f"{RUN}/alpaca_eval/annotations.parquet",
        log:
            f"logs/{config['preset']}/judge.log",
        benchmark:
            f"{RUN}/benchmarks/judge.tsv"
        # A judge elsewhere is asked over the internet.
        localrule: not JUDGED["judge"]["serve"]
        conda:
            "../../environment.yml"
        resources:
            **on_cluster("judge"),
        params:
            settings=settings(JUDGED["judge"], gold=config["gold"]),
            work=f"{RUN}/work/alpaca_eval",
        shell:
            "rm-robustness judge --settings {params.settings:q} --instructions {input.instructions}"
            " --answers {input.answers} --work {params.work} --output {output} 2>&1 | tee {log}"
