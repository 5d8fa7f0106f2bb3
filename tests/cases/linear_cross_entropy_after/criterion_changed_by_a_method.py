# BirdForCausalLM: not emitted, FG609 at 28: a statement between head and loss calls `self.configure`, which sets `torch.nn.CrossEntropyLoss().ignore_index` (line 20)
