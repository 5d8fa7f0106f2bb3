# verdict: none

class BirdForCausalLM(Base): forward = lambda self, labels: self.loss_function(self.lm_head(1), labels, 2)
