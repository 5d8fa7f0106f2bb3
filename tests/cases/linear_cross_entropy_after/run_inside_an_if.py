class BirdPredLayer:
    def forward(self, x, y=None):
        outputs = ()
        if self.adaptive is False:
            if fusible(self, self.proj, y):
                scores = None
                outputs = (scores,) + outputs
                loss = cross_entropy_loss(x, self.proj, y, vocab_size=self.vocab_size, reduction="mean")
                outputs = (loss,) + outputs
            else:
                scores = self.proj(x)
                outputs = (scores,) + outputs
                if y is not None:
                    loss = nn.functional.cross_entropy(scores.view(-1, self.vocab_size), y.view(-1), reduction="mean")
                    outputs = (loss,) + outputs
        else:
            outputs = (self.adaptive_proj.log_prob(x),) + outputs
        return outputs
