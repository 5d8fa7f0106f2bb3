"""Statements that a rewrite puts into a forward, one a line; `\\n` begins a line of it.

{l} logits, {h} hidden states, {y} labels, {w} what is called as head, {lin} its last linear, {loss} the loss, {out} the
output of the body {body}, {op} an operand {o}.{a}, {p} a parameter, {v} a local name, {n} a number, {i} a position.
"""

ON_LOGITS = r"""
{l} = {l} * {n}
{l} = {l} / {n}
{l} = {l} + {n}
{l} = {l} - {n}
{l} = torch.tanh({l} / {n}) * {n}
{l} = {l}.float()
{l} = {l}.double()
{l} = {l}.half().float()
{l} = {l}.to(torch.bfloat16)
{l} = {l} - {l}.mean()
{l} = {l}.detach()
{l} = {l}.flip(0)
{l} = {l}.flip(1)
{l} = {l}[:, -3:]
{l} = {l}[..., :9]
{l} = {l}[:, 1:]
{l} = {l}[:, :-1]
{l} = {l}[::2]
{l} = {l}.transpose(0, 1)
{l} = {l}.clamp(-1, 1)
{l} = {l}.log_softmax(-1)
{l} = torch.nn.functional.dropout({l}, 0.5)
{l} = {l}.masked_fill({l} > 1, -1.0)
{l} = {l} * torch.rand(1)
{l} = {l} ** 2
{l} = -{l}
{l} = {l}.abs()
{l} = {l}.roll(1, -1)
{l} = {l} + {h}.mean()
{l} = {l} if self.training else {l} * 2
{l} = torch.where({l} > 0, {l}, {l} * 2)
{l} = {l}.view(-1, {l}.shape[-1])
{l} = {l}.clone()
{l} = torch.stack([{l}, {l}])
{l}[..., {i}] = -10.0
{l}[:, :, 3] += 1
{l}[0] = 0
{l}.mul_({n})
{l}.add_(1)
{l} += 1
{l} *= {n}
{l} /= {n}
{l}.data.mul_({n})
{l}.requires_grad_(False)
{l}.retain_grad()
{l}.register_hook(lambda g: g * 2)
same = {l}; same.mul_(2)
same = {l}; same *= 2
view = {l}[0]; view.zero_()
view = {l}.view(-1); view[0] = 5.0
for row in {l}: row.mul_(2)
for part in {l}.unbind(0): part.add_(1)
torch.mul({l}, 2, out={l})
(lambda t: t.mul_(2))({l})
kept = [{l}]; kept[0].mul_(2)
torch.nn.functional.relu({l}, inplace=True)
{l}.register_hook(lambda g: None)
""".strip().splitlines()

ON_HIDDEN = r"""
{h} = {h} * {n}
{h} = {h} + 1
{h} = {h}.detach()
{h} = {h}.flip(0)
{h} = {h}.flip(1)
{h} = {h}.double()
{h} = {h}[:, 1:]
{h} = {h}.clone()
{h} = {h}.to(torch.bfloat16)
{h} = None
{h} = {h}.transpose(0, 1)
{h} = torch.nn.functional.dropout({h}, 0.5)
{h} = [{h}, {h} * 2]; {h}.reverse(); {h} = {h}[0]
{h}, other = {h} * 2, {h}
{h}.mul_(2)
{h}.add_(1)
{h} += 1
{h}[..., 0] = 0
{h}[0] = 1.0
{h}.data.mul_(2)
{h}.zero_()
{h}.data = {h}.data * 2
{h}.register_hook(lambda g: g * 2)
{h}.retain_grad()
same = {h}; same += 1
view = {h}[0]; view.mul_(3)
for row in {h}: row.mul_(2)
with torch.no_grad(): {h}.mul_(2)
with torch.no_grad(): {h} = {h} * 1
del {h}
{out} = None
{out}.last_hidden_state = {h} * 2
{out}.last_hidden_state.data.mul_(2)
{out}.last_hidden_state = None
setattr({out}, "last_hidden_state", {h} * 3)
{out}.__dict__.clear()
vars({out}).update(last_hidden_state={h} * 2)
{out} = {body}(None)
{out} = ({out}[0] * 2,)
{out} = list({out}); {out}.reverse()
{out} = [{out}[0] * 2, {out}[0]]; {out}.reverse()
{out}.to_tuple()[0].data.mul_(2)
self.cached = {h}; self.cached.data.mul_(2)
self.cached = {h}
(lambda t: t.mul_(2))({h}.data)
{h}.sub_({h}.mean())
{h}.detach().mul_(2)
torch.nn.init.zeros_({h})
{h}.requires_grad_(False)
{h}.detach_()
{h}.untyped_storage()[0] = 1
{h}.numpy(force=True)[...] = 1
""".strip().splitlines()

ON_HEAD = r"""
{lin}.weight.data.mul_(2)
{lin}.weight.data = {lin}.weight.data * 2
with torch.no_grad(): {lin}.weight.add_(1)
with torch.no_grad(): {lin}.weight.copy_({lin}.weight * 2)
{lin}.weight.requires_grad_(False)
{lin}.weight.requires_grad = False
{lin}.requires_grad_(False)
self.requires_grad_(False)
{lin} = torch.nn.Linear({lin}.in_features, {lin}.out_features)
{lin}.weight = torch.nn.Parameter({lin}.weight * 2)
{lin}.bias = torch.nn.Parameter(torch.ones({lin}.out_features))
{lin}.bias = None
{w} = {body}
del {w}
torch.nn.init.ones_({lin}.weight)
torch.nn.init.normal_({lin}.weight)
{lin}.register_forward_hook(lambda m, a, o: o * 2)
{w}.register_forward_hook(lambda m, a, o: o * 2)
{lin}.register_forward_pre_hook(lambda m, a: (a[0] * 2,))
{lin}.register_full_backward_hook(lambda m, i, o: tuple(g * 2 for g in i))
{lin}.weight.register_hook(lambda g: g * 2)
weight = {lin}.weight; weight.data.mul_(2)
for m in [{lin}]: m.weight.data.mul_(2)
for m in self.modules(): getattr(m, "weight", torch.zeros(1)).data.mul_(2)
for p in self.parameters(): p.data.mul_(1.5)
for p in self.parameters(): p.requires_grad = False
for n, p in self.named_parameters(): p.data.add_(0.1)
[p.data.mul_(2) for p in {lin}.parameters()]
{lin}.apply(lambda m: m.weight.data.mul_(2))
self.apply(lambda m: [p.data.mul_(2) for p in m.parameters(recurse=False)])
{lin}.load_state_dict({k: v * 2 for k, v in {lin}.state_dict().items()})
{lin}.state_dict()["weight"].mul_(2)
{lin}._parameters["weight"].data.mul_(2)
{lin}._parameters["weight"] = torch.nn.Parameter({lin}.weight * 2)
vars({lin})["_parameters"]["weight"].data.mul_(2)
getattr(self, "lm_head").weight.data.mul_(2)
{lin}.reset_parameters()
{lin}.eval()
{lin}.train(False)
self.eval()
self.train(False)
{lin}.half()
{lin}.double()
self.double()
{lin}.zero_grad()
torch.optim.SGD({lin}.parameters(), 0.1).step()
torch.optim.SGD(self.parameters(), 0.5, maximize=True).zero_grad()
{lin}.forward = lambda x: {lin}.weight.sum() * x
{lin}.forward = lambda x: torch.nn.functional.linear(x, {lin}.weight * 2)
torch.nn.functional.linear({h}, {lin}.weight)
torch.nn.utils.parametrizations.weight_norm({lin})
torch.nn.utils.vector_to_parameters(torch.ones(999), {lin}.parameters())
self._modules["lm_head"] = {body}
self.add_module("lm_head", {body})
setattr(self, "lm_head", {body})
torch.nn.utils.clip_grad_value_({lin}.parameters(), 0.1)
{lin}.weight.grad = torch.ones_like({lin}.weight)
{lin}.weight.mul_(2)
{lin}.weight[0] = 0
{lin}.weight.detach().zero_()
{lin}.weight.detach().numpy()[:] = 1
torch.nn.Module.register_forward_hook({lin}, lambda m, a, o: o + 1)
self.tie_weights = 1
{lin}.weight.data[0].fill_(3)
m = self; m.lm_head.weight.data.mul_(2)
m = {w}; m.register_forward_hook(lambda m, a, o: o * 2)
""".strip().splitlines()

ON_OPERANDS = r"""
{op} = 3.0
{op} = {op} * 2
{op} += 1
{op} *= 2
{op} = None
{op} = 0
{op} = {op}
{op} = {op} if {op} is not None else 1.0
del {op}
setattr({o}, "{a}", 3.0)
setattr({o}, "{a}"[:], 3.0)
delattr({o}, "{a}")
{o}.__dict__["{a}"] = 3.0
{o}.__dict__.update({a}=3.0)
vars({o}).update({a}=3.0)
vars({o})["{a}"] = 3.0
object.__setattr__({o}, "{a}", 3.0)
{o}.__setattr__("{a}", 3.0)
thing = {o}; thing.{a} = 3.0
thing = {o}; thing.{a} += 1
thing = {o}; setattr(thing, "{a}", 3.0)
for m in [{o}]: m.{a} = 3.0
for m in [{o}]: m.{a} += 1
for {o}.{a} in [3.0]: pass
with contextlib.nullcontext(3.0) as {op}: pass
({o}.{a}, other) = (3.0, 1)
[{op}, other] = 3.0, 1
(lambda c: setattr(c, "{a}", 3.0))({o})
(lambda c: c.__dict__.update({a}=3.0))({o})
self.model.config.{a} = 3.0
self.model.config.__dict__["{a}"] = 3.0
config = self.config; config.{a} = 3.0
config = self.model.config; config.{a} = 3.0
m = self; m.{a} = 3.0
self.config.{a} = 3.0
self.{a} = 3.0
self.{a} += 1
self.config = self.model.config
self.config = type(self.config)({a}=3.0)
self.config = None
self.config.vocab_size = 12
self.config.vocab_size += 1
self.vocab_size = 12
self.vocab_size += 1
self.vocab_size = self.vocab_size + 0
import types; {o} = types.SimpleNamespace({a}=3.0)
type(self).{a} = 3.0
type({o}).{a} = property(lambda s: 3.0)
self.__class__.extra = 1
self.loss_type = "ForMaskedLM"
self.loss_type = "ForCausalLM"
self.config.loss_type = "ForMaskedLM"
self.loss_function = lambda *a, **k: a[0].sum() if a else k["logits"].sum()
self._loss_function = lambda *a, **k: a[0].sum() if a else k["logits"].sum()
setattr(self, "loss_function", lambda logits=None, labels=None, **k: logits.sum())
self.extra = {op}
self.seen = 1
self.seen = getattr(self, "seen", 0) + 1
self.counter = 0; self.counter += 1
{p} = None
{p} = 3
{p} = not {p}
{p} = {p}
{v} = None
{v} = {v}
{v} = 2
del {p}
if {p} is None: {p} = 1
if self.training: {p} = None
if self.training: {op} = 3.0
if self.training: {y} = None
for {p} in [None]: pass
for {v} in [1, 2]: pass
with contextlib.nullcontext(2) as {p}: pass
import math as {p}
try:\n    {p} = 5\nexcept Exception:\n    pass
{p}, other = 1, 2
({p} := 3)
[{p} := each for each in (1, 2)]
exec("self.{a} = 3.0")
def change():\n    self.{a} = 3.0\n    self.config.{a} = 3.0\nchange()
def change():\n    nonlocal {p}\n    {p} = 3\nchange()
""".strip().splitlines()

ON_LABELS = r"""
{y} = {y}.flip(0)
{y} = {y}.flip(1)
{y} = {y}.roll(1, -1)
{y} = {y}.clone()
{y} = {y} + 0
{y} = {y} + 1
{y} = {y}.masked_fill({y} == 3, -100)
{y} = torch.where({y} > 3, {y}, -100)
{y} = {y}.to(torch.uint8)
{y} = {y}.int()
{y} = {y}.float()
{y} = {y}.view(-1)
{y} = {y}[:, 1:]
{y} = {y}[..., :-1]
{y} = None
{y} = {y}.clamp(min=0)
{y} = {y}.to({l}.device)
{y} = {y}.contiguous()
{y} = {y}.unsqueeze(0)
{y} = {y}.t()
{y} = {h}.argmax(-1)
{y} = {l}.argmax(-1)
{y} = torch.zeros_like({y})
{y}[0, 2] = 3
{y}[:, 1] = -100
{y}[{y} == 3] = -100
{y}.fill_(2)
{y}.add_(1)
{y} += 1
{y}.copy_({y}.flip(0))
{y}.masked_fill_({y} > 4, -100)
same = {y}; same[0] = 1
for row in {y}: row.fill_(1)
{y}.data.zero_()
{y} = {y} if {y}.dim() == 2 else None
if {y} is not None: {y} = {y}.flip(1)
if {y} is not None: {y}[:, 0] = 1
{y} = [{y}][0]
{y}, other = {y}.flip(1), 1
del {y}
kwargs["shift_labels"] = {y}
kwargs = dict(shift_labels={y}.roll(1, 1))
""".strip().splitlines()

ON_KEYWORDS = r"""
kwargs["ignore_index"] = 3
kwargs["num_items_in_batch"] = 7
kwargs["vocab_size"] = 11
kwargs["softcap"] = 2.0
kwargs["reduction"] = "sum"
kwargs.update(ignore_index=3)
kwargs.update({"num_items_in_batch": 3})
kwargs.setdefault("num_items_in_batch", 4)
kwargs = {}
kwargs = {"num_items_in_batch": 2}
kwargs = {**kwargs, "ignore_index": 2}
kwargs |= {"ignore_index": 2}
kwargs.pop("num_items_in_batch", None)
kwargs.clear()
other = kwargs; other["ignore_index"] = 3
del kwargs
kwargs["weight"] = torch.ones(11)
kwargs["label_smoothing"] = 0.1
loss_fct = torch.nn.CrossEntropyLoss(label_smoothing=0.2)
loss_fct = torch.nn.CrossEntropyLoss(ignore_index=3)
loss_fct = torch.nn.MSELoss()
loss_fct.ignore_index = 3
loss_fct.label_smoothing += 0.1
loss_fct.reduction = "sum"
setattr(loss_fct, "reduction", "sum")
vars(loss_fct).update(reduction="sum")
loss_fct.__dict__["label_smoothing"] = 0.5
loss_fct.weight = torch.arange(11.0)
loss_fct.register_buffer("weight", torch.arange(11.0))
loss_fct.register_forward_hook(lambda m, a, o: o * 2)
loss_fct.register_forward_pre_hook(lambda m, a: (a[0] * 2, a[1]))
loss_fct.forward = lambda a, b: a.sum()
for c in [loss_fct]: c.ignore_index = 3
criterion = loss_fct; criterion.ignore_index = 3
self.loss_fct.ignore_index = 3
self.loss_fct.label_smoothing += 0.1
self.loss_fct.register_forward_hook(lambda m, a, o: o * 2)
self.loss_fct = torch.nn.CrossEntropyLoss(reduction="sum")
""".strip().splitlines()

ON_MODES = r"""
torch.set_grad_enabled(False)
torch.set_grad_enabled(not torch.is_grad_enabled())
torch.set_grad_enabled(True)
torch._C._set_grad_enabled(False)
torch.autograd.set_grad_mode(False)
torch.no_grad().__enter__()
guard = torch.no_grad(); guard.__enter__()
was = torch.is_grad_enabled(); torch.set_grad_enabled(False)
torch.set_autocast_enabled("cpu", True)
torch.autocast("cpu", dtype=torch.bfloat16).__enter__()
torch.set_default_dtype(torch.float32)
torch.manual_seed(0)
torch.rand(1)
noise = torch.rand(1)
switch = torch.set_grad_enabled; switch(False)
getattr(torch, "set_grad_enabled")(False)
torch.set_grad_enabled(mode=False)
torch.nn.modules.module.register_module_forward_hook(lambda m, a, o: o * 2 if isinstance(o, torch.Tensor) else None)
contextlib.ExitStack().enter_context(torch.no_grad())
torch.use_deterministic_algorithms(False)
""".strip().splitlines()

ON_RESULT = r"""
{loss} = {loss} * 2
{loss} = {loss} + 1
{loss} = {loss}.detach()
{loss} = {loss} + {l}.mean()
{loss} = {loss} + ({l} ** 2).mean()
{loss} = {loss} + 0.1 * {l}.logsumexp(-1).pow(2).mean()
{loss} = {loss} + {h}.mean()
{loss} = {loss} / {l}.shape[0]
{loss} = {loss}.mean()
{loss} = {loss}.sum()
{loss} = {loss}.double()
{loss} = {loss}.to({l}.dtype)
{loss} = {loss}[None]
{loss} = None
{loss} = ({loss}, 1)[0]
{loss} = torch.stack([{loss}, {loss}]).sum()
{loss} *= 2
{loss}.mul_(2)
{loss}.register_hook(lambda g: g * 3)
{loss}.backward(retain_graph=True)
{loss}.requires_grad_()
if {loss} > 1: {loss} = {loss} * 2
if {l} is not None: {loss} = {loss} * 2
if {l} is None: {loss} = {loss} * 2
if self.training: {loss} = {loss} * 3
if self.training: {loss} = {loss} + {l}.sum()
assert {l} is not None
assert {loss} is not None
{loss} = {loss} + self.config.coefficient * {l}.mean()
self.last_loss = {loss}.item()
self.last_logits = {l}
self.last = {l}.detach().mean().item()
predictions = {l}.argmax(-1)
accuracy = ({l}.argmax(-1) == {y}).float().mean()
return {loss}, {l}.mean()
return {loss}
return ({loss}, {h})
return {"loss": {loss}, "logits": {l}}
{l} = {l}.softmax(-1)
{l} = None
{l} = {l}[:, -1]
del {l}
{h} = {l}
{h} = {h} * 2
print({l}.shape, end="") if False else None
""".strip().splitlines()
