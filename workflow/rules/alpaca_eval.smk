# AlpacaEval 2.0: the SFT model and the policies answer its instructions; a single job has the judge
# compare every answer with the baseline's, so that no request is sent twice.

if JUDGED:

    rule answers:
        input:
            model=answering_model,
            instructions=at("instructions"),
        output:
            answers=at("answers"),
            record=record("answers"),
        log:
            f"logs/{config['preset']}/answers/{{policy}}/seed-{{seed}}.log",
        benchmark:
            f"{RUN}/benchmarks/answers/{{policy}}/seed-{{seed}}.tsv"
        wildcard_constraints:
            policy="|".join(["sft", *POLICIES]),
        conda:
            "../../environment.yml"
        resources:
            **on_cluster("answers", "policy"),
        params:
            settings=settings("answers"),
            model=subpath(input.model, parent=True),
        shell:
            "rm-robustness answers --settings {params.settings:q} --model {params.model}"
            " --instructions {input.instructions} --output {output.answers} > {log} 2>&1"


JUDGE = grid.judge_kind(config)


if JUDGE:

    rule judge:
        input:
            model=at("pretrained", model="judge") if JUDGE == "vllm" else [],
            instructions=at("instructions"),
            answers=catalog.answer_files(config),
        output:
            annotations=at("annotations"),
            record=record("judge"),
        log:
            f"logs/{config['preset']}/judge.log",
        benchmark:
            f"{RUN}/benchmarks/judge.tsv"
        # A hosted judge needs the internet.
        localrule: JUDGE == "hosted"
        conda:
            "../../environment.yml"
        resources:
            **on_cluster("judge"),
        params:
            settings=settings("judge"),
            work=f"{RUN}/work/alpaca_eval",
        shell:
            "rm-robustness judge --settings {params.settings:q} --instructions {input.instructions}"
            " --answers {input.answers} --work {params.work} --output {output.annotations}"
            " > {log} 2>&1"
