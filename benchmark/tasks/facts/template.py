"""An empty file of facts to fill in."""

TEMPLATE = """\
# Facts to edit into a model: one row for each, below the line of column names. Lines that begin with # are not read.
# prompt     Text before the answer, or a question. A text with a comma has to be in double quotes.
# target     The new answer; several right ones are separated by | and the first is edited in.
# The other columns may be empty or deleted:
# old        The answer before the edit.
# subject    What the fact is about, as in the prompt; some editors need it.
# rephrase   The prompt in other words (generalization). Further columns: rephrase_2, rephrase_3, ...
# unrelated  A prompt whose answer has to stay (locality), and unrelated_answer if you know it; unrelated_2, ...
# portability  A question that follows from the new fact, with portability_answer; portability_2, ...
#
# Example:
# Where is the office?,New York|New York City,Boston,the office,In which city is our office?,Who runs the bakery?,,\
In which state is the office?,New York
# Check it:  instructedit facts check FILE      Run it:  instructedit run FILE --model MODEL
prompt,target,old,subject,rephrase,unrelated,unrelated_answer,portability,portability_answer
"""
