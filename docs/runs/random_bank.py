"""Write a bank whose descriptions of one task are the random controls of a loop: random_bank.py LOOP OUT.json."""

import sys
from pathlib import Path

from instructedit.benchmark.results.loop_results import BANK, FINAL, Final
from instructedit.benchmark.results.records import read_record
from instructedit.benchmark.results.run_folder import write_record
from instructedit.benchmark.setup.banks import read_bank

loop, out = Path(sys.argv[1]), Path(sys.argv[2])
bank = read_bank(loop / BANK)
task = bank.history[-1]["task"]
own = bank.tasks[task]
words = tuple(trial.text for trial in read_record(loop / FINAL, Final).groups["random"])
new = own.model_copy(update={"descriptions": (*words, own.descriptions[own.unseen]), "unseen": len(words)})
write_record(out, bank.model_copy(update={"name": "random words", "history": (), "tasks": {**bank.tasks, task: new}}))
