# Tables and figures, from scores and probes alone. The last two rules copy the active preset's to
# results/.

SHOWN = settings(
    GRID,
    config["statistics"],
    preset=config["preset"],
    note=config["note"],
    backbones={
        name: {"paper_model": config["backbones"][name]["paper_model"]}
        for name in GRID["backbones"]
    },
    bsr=config["reward_models"]["objectives"]["bt-bsr"],
    micro_batch=config["reward_models"]["micro_batch"],
    paper_values="data/paper/published_values.csv",
)


localrules:
    publish_table,
    publish_figure,
    table5,
    figure1,
    figure2,
    figure3,
    figure4,


rule table5:
    input:
        scores=scores_of(*GRID["objectives"]),
        splits=expand(f"{RUN}/splits/{{split}}.parquet", split=SCENARIOS),
        published="data/paper/published_values.csv",
        code=code("scenarios", "tables", "metrics", "statistics"),
    output:
        csv=report(
            f"{RUN}/results/table5.csv",
            caption="../report/table5.rst",
            category="Four robustness scenarios",
        ),
        md=f"{RUN}/results/table5.md",
        record=f"{RUN}/results/table5.record.json",
    log:
        f"logs/{config['preset']}/table5.log",
    conda:
        "../../environment.yml"
    params:
        settings=SHOWN,
        runs=subpath(output.csv, ancestor=2),
    shell:
        "rm-robustness table5 --settings {params.settings:q} --runs {params.runs}"
        " --output {output.csv} 2>&1 | tee {log}"


rule figure1:
    input:
        probes=probes_of(config["statistics"]["reference"]),
        code=code("figures", "drawing", "statistics"),
    output:
        png=report(
            f"{RUN}/results/figure1.png",
            caption="../report/figure1.rst",
            category="Why reward models fail",
        ),
        more=multiext(f"{RUN}/results/figure1", ".pdf", ".csv"),
    log:
        f"logs/{config['preset']}/figure1.log",
    conda:
        "../../environment.yml"
    params:
        settings=SHOWN,
        runs=subpath(output.png, ancestor=2),
        stem=subpath(output.png, strip_suffix=".png"),
    shell:
        "rm-robustness figure1 --settings {params.settings:q} --runs {params.runs}"
        " --output {params.stem} 2>&1 | tee {log}"


rule figure2:
    input:
        probes=probes_of(config["statistics"]["reference"]),
        code=code("figures", "drawing", "statistics"),
    output:
        png=report(
            f"{RUN}/results/figure2.png",
            caption="../report/figure2.rst",
            category="Why reward models fail",
        ),
        more=multiext(f"{RUN}/results/figure2", ".pdf", ".csv"),
    log:
        f"logs/{config['preset']}/figure2.log",
    conda:
        "../../environment.yml"
    params:
        settings=SHOWN,
        runs=subpath(output.png, ancestor=2),
        stem=subpath(output.png, strip_suffix=".png"),
    shell:
        "rm-robustness figure2 --settings {params.settings:q} --runs {params.runs}"
        " --output {params.stem} 2>&1 | tee {log}"


rule figure3:
    input:
        scores=scores_of(config["statistics"]["reference"], "bt-bsr"),
        code=code("figures", "drawing", "statistics"),
    output:
        png=report(
            f"{RUN}/results/figure3.png",
            caption="../report/figure3.rst",
            category="Why reward models fail",
        ),
        more=multiext(f"{RUN}/results/figure3", ".pdf", ".csv"),
    log:
        f"logs/{config['preset']}/figure3.log",
    conda:
        "../../environment.yml"
    params:
        settings=SHOWN,
        runs=subpath(output.png, ancestor=2),
        stem=subpath(output.png, strip_suffix=".png"),
    shell:
        "rm-robustness figure3 --settings {params.settings:q} --runs {params.runs}"
        " --output {params.stem} 2>&1 | tee {log}"


rule figure4:
    input:
        table=rules.table5.output.csv,
        code=code("figures", "drawing", "statistics"),
    output:
        png=report(
            f"{RUN}/results/figure4.png",
            caption="../report/figure4.rst",
            category="Four robustness scenarios",
        ),
        more=multiext(f"{RUN}/results/figure4", ".pdf", ".csv"),
    log:
        f"logs/{config['preset']}/figure4.log",
    conda:
        "../../environment.yml"
    params:
        stem=subpath(output.png, strip_suffix=".png"),
    shell:
        "rm-robustness figure4 --table {input.table} --output {params.stem} 2>&1 | tee {log}"


# A table's or figure's files go together, so that no csv stands beside another preset's picture.
rule publish_table:
    input:
        multiext(f"{RUN}/results/{{table}}", ".csv", ".md"),
    output:
        multiext("results/{table}", ".csv", ".md"),
    log:
        f"logs/{config['preset']}/publish/{{table}}.log",
    conda:
        "../../environment.yml"
    shell:
        "cp {input} results/ 2> {log}"


rule publish_figure:
    input:
        multiext(f"{RUN}/results/{{figure}}", ".png", ".pdf", ".csv"),
    output:
        multiext("results/{figure}", ".png", ".pdf", ".csv"),
    log:
        f"logs/{config['preset']}/publish/{{figure}}.log",
    conda:
        "../../environment.yml"
    shell:
        "cp {input} results/ 2> {log}"
