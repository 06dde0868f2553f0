"""One model on many processes: who starts them, what they say to one another, and what each of them keeps.

`launch` starts processes and joins them; `data_parallel`, `sharded`, `tensor` and `pipeline` are the four ways to divide the
work, `costs` is what each of them sends, and `running` lets `training.train` run in three of them.
"""
