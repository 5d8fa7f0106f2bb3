class BirdForCausalLM:
    def forward(self, input_ids=None, attention_mask=None, labels=None, **kwargs):
        hidden_states = self.model(input_ids)[0]
        if fusible(self, self.lm_head, labels):
            shift_hidden_states = hidden_states[..., :-1, :]
            shift_labels = labels[..., 1:]
            if attention_mask is not None:
                shift_attention_mask = attention_mask[:, -shift_hidden_states.shape[1] :].to(hidden_states.device)
                shift_hidden_states = shift_hidden_states[shift_attention_mask.to(hidden_states.device) != 0].contiguous()
                shift_labels = shift_labels[shift_attention_mask.to(shift_labels.device) != 0].contiguous()
            else:
                shift_hidden_states = shift_hidden_states.contiguous()
                shift_labels = shift_labels.contiguous()
            logits = None
            loss = cross_entropy_loss(shift_hidden_states, self.lm_head, shift_labels)
        else:
            logits = self.lm_head(hidden_states)
            loss = None
            if labels is not None:
                shift_logits = logits[..., :-1, :]
                shift_labels = labels[..., 1:]
                if attention_mask is not None:
                    shift_attention_mask = attention_mask[:, -shift_logits.shape[1] :].to(logits.device)
                    shift_logits = shift_logits[shift_attention_mask.to(logits.device) != 0].contiguous()
                    shift_labels = shift_labels[shift_attention_mask.to(shift_labels.device) != 0].contiguous()
                else:
                    shift_logits = shift_logits.contiguous()
                    shift_labels = shift_labels.contiguous()
                loss_fct = CrossEntropyLoss()
                loss = loss_fct(shift_logits.view(-1, shift_logits.size(-1)), shift_labels.view(-1).to(shift_logits.device))
        return CausalLMOutputWithPast(loss=loss, logits=logits)
