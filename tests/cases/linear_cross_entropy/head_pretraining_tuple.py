# verdict: match
# head: self.cls in self.cls.predictions.decoder
# before: self.cls.predictions.transform
# labels: aligned
# chain: bias(add=self.cls.predictions.bias)
# guards: none

import torch
from torch import nn
from torch.nn import CrossEntropyLoss


class BirdTransform(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size)

    def forward(self, hidden_states):
        return self.LayerNorm(self.dense(hidden_states))


class BirdPredictionHead(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.transform = BirdTransform(config)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, hidden_states):
        hidden_states = self.transform(hidden_states)
        return self.decoder(hidden_states) + self.bias


class BirdPreTrainingHeads(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.predictions = BirdPredictionHead(config)
        self.seq_relationship = nn.Linear(config.hidden_size, 2)

    def forward(self, sequence_output, pooled_output):
        prediction_scores = self.predictions(sequence_output)
        return prediction_scores, self.seq_relationship(pooled_output)


class BirdForPreTraining(BirdPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.model = BirdModel(config)
        self.vocab_size = config.vocab_size
        self.cls = BirdPreTrainingHeads(config)

    def forward(self, input_ids=None, labels=None, next_sentence_label=None, **kwargs):
        hidden_states = self.model(input_ids)[0]
        logits, seq_relationship_score = self.cls(hidden_states, hidden_states[:, 0])
        loss = None
        if labels is not None:
            loss_fct = CrossEntropyLoss()
            masked_lm_loss = loss_fct(logits.view(-1, self.config.vocab_size), labels.view(-1))
            next_sentence_loss = loss_fct(seq_relationship_score.view(-1, 2), next_sentence_label.view(-1))
            loss = masked_lm_loss + next_sentence_loss
        return BirdForPreTrainingOutput(loss=loss, prediction_logits=logits, seq_relationship_logits=seq_relationship_score)
