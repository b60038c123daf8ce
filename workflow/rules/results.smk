# Tables, figures and claims, from what was scored, looked at and judged; no model is touched here.
# The last rules copy the active preset's results to results/.

SHOWN = {
    **GRID,
    **config["statistics"],
    "preset": config["preset"],
    "note": config["note"],
    "backbones": {
        name: {"paper_model": config["backbones"][name]["paper_model"]}
        for name in GRID["backbones"]
    },
    "bsr": config["reward_models"]["objectives"]["bt-bsr"],
    "micro_batch": config["reward_models"]["micro_batch"],
    "paper_values": "data/paper/published_values.csv",
}
LATER = {name: config[name] for name in ("rm_bench", "ranks", "rloo", "alpaca_eval")}
RANKS = f"{RUN}/ranks/{{backbone}}/{{objective}}/seed-{{seed}}.parquet"
BENCH_SCORES = f"{RUN}/scores/{{backbone}}/{{objective}}/seed-{{seed}}/rm_bench.parquet"

# Of each result: its inputs, the code that an edit of makes it again, its settings, its place.
INPUTS, CODE, SETTINGS = {}, {}, {}
PLACE = {
    "figure1": "1 Why reward models fail",
    "figure2": "1 Why reward models fail",
    "figure3": "1 Why reward models fail",
    "figure4": "2 Four robustness scenarios",
    "table5": "2 Four robustness scenarios",
    "table4": "3 RLOO",
    "figure5": "3 RLOO",
    "figure6": "3 RLOO",
    "table1": "4 RM-Bench",
    "table2": "4 RM-Bench",
    "table3": "5 AlpacaEval 2.0",
    "claims": "0 Claims and cost",
}

TITLE = {
    "figure1": "Figure 1: norm of the reward head",
    "figure2": "Figure 2: distance of hidden states",
    "figure3": "Figure 3: norms in four scenarios",
    "figure4": "Figure 4: the four metrics",
    "figure5": "Figure 5: proxy reward, KL and gold",
    "figure6": "Figure 6: proxy reward, large reward models",
    "table1": "Table 1: effective rank",
    "table2": "Table 2: RM-Bench",
    "table3": "Table 3: AlpacaEval 2.0",
    "table4": "Table 4: configuration of RLOO",
    "table5": "Table 5: the four metrics",
    "claims": "Claims C1 to C13: verdicts",
}

probes = probes_of(config["statistics"]["reference"])
both = scores_of(config["statistics"]["reference"], "bt-bsr")
splits = expand(f"{RUN}/splits/{{split}}.parquet", split=SCENARIOS)
published = [SHOWN["paper_values"]]
INPUTS["figure1"] = INPUTS["figure2"] = probes
INPUTS["figure3"] = both
INPUTS["figure4"] = [f"{RUN}/results/table5.csv"]
INPUTS["table5"] = [*scores_of(*GRID["objectives"]), *splits, *published]
for name in ("figure1", "figure2", "figure3", "figure4"):
    CODE[name] = code(
        "results/figures_reward_models", "results/plot_style", "statistics"
    )
    SETTINGS[name] = SHOWN
CODE["table5"] = code(
    "evaluation/scenarios", "results/tables", "metrics", "statistics", "results/html"
)
SETTINGS["table5"] = SHOWN

if BENCH:
    INPUTS["table2"] = [
        *bench_files(BENCH_SCORES, *BENCH["objectives"]),
        rules.rm_bench.output.frame,
        *published,
    ]
    CODE["table2"] = code(
        "evaluation/rm_bench",
        "evaluation/scenarios",
        "results/tables",
        "statistics",
        "results/html",
    )
    SETTINGS["table2"] = {**SHOWN, "rm_bench": BENCH}

if config["ranks"]:
    INPUTS["table1"] = [*bench_files(RANKS, *config["ranks"]["objectives"]), *published]
    CODE["table1"] = code(
        "evaluation/effective_rank", "results/tables", "statistics", "results/html"
    )
    SETTINGS["table1"] = {**SHOWN, "rm_bench": BENCH, "ranks": config["ranks"]}

if RLOO:
    for name, run in (("figure5", "standard"), ("figure6", "large")):
        INPUTS[name] = [
            f"{RUN}/looks/{run}-{model}.parquet" for model in ("bt", "bt-bsr")
        ]
        CODE[name] = code("results/figures_rloo", "results/plot_style", "statistics")
        SETTINGS[name] = config["statistics"]
    INPUTS["table4"] = []
    CODE["table4"] = code("results/table4_rloo", "results/tables", "results/html")
    SETTINGS["table4"] = {
        **{name: SHOWN[name] for name in ("preset", "note", "seed")},
        "rloo": RLOO,
    }

if JUDGED:
    gamed = [f"{RUN}/raw/alpaca_eval/df_gamed.csv"] if JUDGED["judge"] else []
    judged = [f"{RUN}/alpaca_eval/annotations.parquet"] if JUDGED["judge"] else []
    INPUTS["table3"] = [*ANSWERS, *judged, *gamed, *published]
    CODE["table3"] = code(
        "evaluation/alpaca_eval/win_rates",
        "evaluation/alpaca_eval/length_controlled",
        "evaluation/alpaca_eval/package",
        "results/tables",
        "statistics",
        "results/html",
    )
    SETTINGS["table3"] = {**SHOWN, "alpaca_eval": JUDGED}

# The verdicts are reckoned anew from what the tables rest on, but for what tables 1 and 3 say.
INPUTS["claims"] = [
    *probes,
    *scores_of(*GRID["objectives"]),
    *INPUTS.get("table2", published),
    *(f"{RUN}/results/{name}.csv" for name in ("table1", "table3") if name in INPUTS),
    *INPUTS.get("figure5", []),
]
CODE["claims"] = code(
    "results/claims",
    "results/claims_page",
    "results/paper_claims",
    "results/claim_evidence",
    "results/measurements",
    "evaluation/scenarios",
    "results/figures_reward_models",
    "results/figures_rloo",
    "evaluation/rm_bench",
    "results/tables",
    "metrics",
    "statistics",
    "results/html",
)
SETTINGS["claims"] = {**SHOWN, **LATER}

TEXTS = [name for name in INPUTS if not name.startswith("figure")]
DRAWN = [name for name in INPUTS if name.startswith("figure")]
TABLES = expand("{name}.{suffix}", name=sorted(TEXTS), suffix=["csv", "md"])
FIGURES = expand("{name}.{suffix}", name=sorted(DRAWN), suffix=["png", "pdf", "csv"])


localrules:
    publish_table,
    publish_figure,
    metrics,
    run_times,


for text in TEXTS:

    rule:
        name:
            text
        input:
            files=INPUTS[text],
            code=CODE[text],
        output:
            csv=f"{RUN}/results/{text}.csv",
            md=f"{RUN}/results/{text}.md",
            html=report(
                f"{RUN}/results/{text}.html",
                caption=f"../report/{text}.rst",
                category=PLACE[text],
                labels={"result": TITLE[text]},
            ),
            record=f"{RUN}/results/{text}.record.json",
        log:
            f"logs/{config['preset']}/{text}.log",
        localrule: True
        conda:
            "../../environment.yml"
        params:
            verb=text,
            settings=settings(SETTINGS[text]),
            runs=subpath(output.csv, ancestor=2),
        shell:
            "rm-robustness {params.verb} --settings {params.settings:q} --runs {params.runs}"
            " --output {output.csv} 2>&1 | tee {log}"


for drawn in DRAWN:

    rule:
        name:
            drawn
        input:
            files=INPUTS[drawn],
            code=CODE[drawn],
        output:
            png=report(
                f"{RUN}/results/{drawn}.png",
                caption=f"../report/{drawn}.rst",
                category=PLACE[drawn],
                labels={"result": TITLE[drawn]},
            ),
            more=multiext(f"{RUN}/results/{drawn}", ".pdf", ".csv", ".record.json"),
        log:
            f"logs/{config['preset']}/{drawn}.log",
        localrule: True
        conda:
            "../../environment.yml"
        params:
            verb=drawn,
            settings=settings(SETTINGS[drawn]),
            runs=subpath(output.png, ancestor=2),
            stem=subpath(output.png, strip_suffix=".png"),
        shell:
            "rm-robustness {params.verb} --settings {params.settings:q} --runs {params.runs}"
            " --output {params.stem} 2>&1 | tee {log}"


# The tables' numbers once more, for `dvc metrics`.
rule metrics:
    input:
        tables=expand(
            f"{RUN}/results/{{table}}.csv",
            table=sorted({"table1", "table2", "table3", "table5"} & set(TEXTS)),
        ),
        code=code("results/dvc_metrics"),
    output:
        json=f"{RUN}/results/metrics.json",
        record=f"{RUN}/results/metrics.record.json",
    log:
        f"logs/{config['preset']}/metrics.log",
    conda:
        "../../environment.yml"
    shell:
        "rm-robustness metrics --tables {input.tables} --output {output.json} 2>&1 | tee {log}"


# For the report alone: what it says differs between runs.
rule run_times:
    input:
        expand(f"{RUN}/results/{{name}}.csv", name=[*TEXTS, *DRAWN]),
    output:
        report(
            f"{RUN}/results/run_times.html",
            caption="../report/run_times.rst",
            category="0 Claims and cost",
            labels={"result": "Run times: what each phase cost"},
        ),
    log:
        f"logs/{config['preset']}/run_times.log",
    conda:
        "../../environment.yml"
    params:
        benchmarks=subpath(output[0], ancestor=2),
    shell:
        "rm-robustness run-times --benchmarks {params.benchmarks}/benchmarks --output {output}"
        " 2>&1 | tee {log}"


# A table's or figure's files go together, so that no csv stands beside another preset's picture.
rule publish_table:
    input:
        multiext(f"{RUN}/results/{{table}}", ".csv", ".md", ".record.json"),
    output:
        multiext("results/{table}", ".csv", ".md", ".record.json"),
    log:
        f"logs/{config['preset']}/publish/{{table}}.log",
    conda:
        "../../environment.yml"
    shell:
        "cp {input} results/ 2> {log}"


rule publish_figure:
    input:
        multiext(f"{RUN}/results/{{figure}}", ".png", ".pdf", ".csv", ".record.json"),
    output:
        multiext("results/{figure}", ".png", ".pdf", ".csv", ".record.json"),
    log:
        f"logs/{config['preset']}/publish/{{figure}}.log",
    conda:
        "../../environment.yml"
    shell:
        "cp {input} results/ 2> {log}"
