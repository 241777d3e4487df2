"""Question files in Parquet, in the shapes that the published data has.

usage: make_parquet.py DIR       (DIR: the folder `parquet` beside this script). Made with pyarrow 26.0.1.

nq_search/test.parquet      Search-R1: question, golden_answers, data_source, prompt, reward_model.ground_truth.target, extra_info
verl/train.parquet          env_kwargs with ground_truth, question and data_source; zstd
popqa.parquet               possible_answers: a list as a text
plain.parquet               question, answers; several row groups
no_answers.parquet          a question without any answer column
no_question.parquet         an answer without question column
"""

import pathlib
import sys

import pyarrow as pa
import pyarrow.parquet as pq


def main():
    out = pathlib.Path(sys.argv[1])
    for folder in ["nq_search", "verl"]:
        (out / folder).mkdir(parents=True, exist_ok=True)
    search_r1 = [
        dict(
            id=f"test_{i}", question=q, golden_answers=a, data_source="nq",
            prompt=[dict(role="user", content=f"Answer the given question. Question: {q}")], ability="fact-reasoning",
            reward_model=dict(style="rule", ground_truth=dict(target=a)), extra_info=dict(split="test", index=i),
        )
        for i, (q, a) in enumerate([("who wrote the first program", ["Ada Lovelace", "Lovelace"]), ("wer war zoë", ["Zoë 🙂"])])
    ]
    pq.write_table(pa.Table.from_pylist(search_r1), out / "nq_search/test.parquet", compression="snappy")
    verl = [
        dict(
            data_source="searchR1_hotpotqa", prompt=[dict(role="user", content="...")],
            env_kwargs=dict(ground_truth=["Rush"], question="which band", data_source="hotpotqa"),
            extra_info=dict(split="train", index=5),
        )
    ]
    pq.write_table(pa.Table.from_pylist(verl), out / "verl/train.parquet", compression="zstd")
    popqa = [dict(id=7, question="What is X's occupation?", possible_answers='["politician", "pol."]', s_wiki_title="X")]
    pq.write_table(pa.Table.from_pylist(popqa), out / "popqa.parquet", compression="none")
    plain = [dict(id=str(i), question=f"q{i}", answers=[str(i)]) for i in range(10)]
    pq.write_table(pa.Table.from_pylist(plain), out / "plain.parquet", row_group_size=3)
    pq.write_table(pa.Table.from_pylist([dict(id="1", question="q")]), out / "no_answers.parquet")
    pq.write_table(pa.Table.from_pylist([dict(id="1", answers=["x"])]), out / "no_question.parquet")


if __name__ == "__main__":
    main()
