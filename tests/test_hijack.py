"The hijack is all or nothing: an interrupt at any line leaves nothing behind, and two threads never mix"
import _thread, linecache, random, signal, sys, threading

import pytest, torch
from torch.utils.checkpoint import checkpoint

from attnattack.hijack import Capture, hijack, hijacked_modules
from attnattack.models import dummy_diffusion, embed
from attnattack.release import hijacked

TIME, LATENT = torch.tensor(51), torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))

class Model:
    "A U-Net and what it was before anything happened to it"
    def __init__(self):
        model = dummy_diffusion()
        self.unet, self.text = model.unet, embed(model, "a log").cond
        self.processors = dict(self.unet.attn_processors)
        with torch.no_grad(): self.before = self.predict()
    def predict(self, latent=LATENT): return self.unet(latent, TIME, **self.text).sample
    def is_as_before(self):
        assert hijacked_modules(self.unet) == [] and "_hijack" not in vars(self.unet)
        assert not [n for n, m in self.unet.named_modules() if "forward" in vars(m)]
        assert all(self.unet.attn_processors[n] is p for n, p in self.processors.items())
        with torch.no_grad(): return torch.equal(self.predict(), self.before)

@pytest.fixture(scope="module")
def model(): return Model()

# ---- interrupts

OURS = ("/attnattack/hijack.py", "/attnattack/release.py")
THEIRS = ("set_attn_processor", "fn_recursive_attn_processor", "set_processor")

def watched(code):
    "All but `__del__`, where Python only prints what is raised"
    return (code.co_filename.endswith(OURS) or code.co_name in THEIRS) and code.co_name != "__del__"

def some(n):
    "Every step near the beginning and the end, and some between them, where modules are alike"
    return [*range(1, 40), *range(40, n - 40, max(1, n // 30)), *range(n - 40, n + 1)]

def can_interrupt(frame):
    "Does Python look for signals at this line? Not where it only opens a `try`"
    return linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip() != "try:"

class Interrupt:
    "Raises `error` at the `at`-th line that runs in the hijack's code; counts them"
    def __init__(self, at=None, error=KeyboardInterrupt): self.at, self.error, self.lines = at, error, 0
    def trace(self, frame, event, arg):
        if not watched(frame.f_code): return None
        if event == "line" and can_interrupt(frame):
            self.lines += 1
            if self.lines == self.at: raise self.error
        return self.trace
    def __enter__(self): sys.settrace(self.trace); return self
    def __exit__(self, *_): sys.settrace(None)

def enter_and_leave(model, how):
    with hijacked(model.unet, how=how): pass

@pytest.mark.parametrize("how", ["forward", "processor"])
def test_an_interrupt_at_any_line_leaves_nothing(model, how):
    with Interrupt() as count: enter_and_leave(model, how)
    assert count.lines > 200
    for at in some(count.lines):
        try:
            with Interrupt(at): enter_and_leave(model, how)
            raised = False
        except KeyboardInterrupt: raised = True
        assert raised and hijacked_modules(model.unet) == [], at
    assert model.is_as_before()

@pytest.mark.parametrize("how", ["forward", "processor"])
def test_hijack_alone_is_atomic(model, how):
    with Interrupt() as count: h = hijack(model.unet, how=how)
    h.put_back()
    for at in some(count.lines):
        with pytest.raises(MemoryError), Interrupt(at, MemoryError): hijack(model.unet, how=how)
        assert hijacked_modules(model.unet) == [], at
    assert model.is_as_before()

def test_signals_at_random_moments(model):
    rng, struck = random.Random(0), 0
    handler = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        for _ in range(60):
            signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-4, 6e-3))
            try:
                for _ in range(50): enter_and_leave(model, rng.choice(["forward", "processor"]))
            except KeyboardInterrupt: struck += 1
            finally: signal.setitimer(signal.ITIMER_REAL, 0)
            assert hijacked_modules(model.unet) == []
    finally: signal.signal(signal.SIGALRM, handler)
    assert struck > 40 and model.is_as_before()

# ---- threads

def in_thread(*calls):
    "Run each call in a thread of its own, all at once; what each raised, or None"
    raised, start = [None] * len(calls), threading.Barrier(len(calls))
    def work(i, call):
        start.wait()
        try: call()
        except BaseException as e: raised[i] = e
    threads = [threading.Thread(target=work, args=pair, name=f"t{pair[0]}") for pair in enumerate(calls)]
    for t in threads: t.start()
    for t in threads: t.join(60)
    return raised

@pytest.mark.parametrize("how", ["forward", "processor"])
def test_another_threads_call_is_refused_and_writes_nothing(model, how):
    with hijacked(model.unet, how=how) as h, torch.no_grad():
        model.predict()
        kept = dict(h.store)
        error, = in_thread(lambda: model.predict(LATENT + 1))
        assert isinstance(error, RuntimeError) and "hijacked by thread 'MainThread', called by 't0'; one thread at a time" in str(error)
        assert h.store.keys() == kept.keys() and all(h.store[n] is a for n, a in kept.items())
    assert model.is_as_before()

def test_races_between_threads_end_in_whole_hijacks_or_refusals(model):
    whole = []
    def work():
        for _ in range(4):
            with hijacked(model.unet) as h, torch.no_grad():
                model.predict()
                whole.append(len(h.store))
    def patient():
        for _ in range(6):
            try: work()
            except RuntimeError as e:
                if "one thread at a time" not in str(e): raise
    errors = in_thread(*[patient] * 3)
    assert errors == [None] * 3 and whole and set(whole) == {20}
    assert model.is_as_before()

def test_a_second_hijack_in_another_thread_is_refused_by_name(model):
    with hijacked(model.unet):
        error, = in_thread(lambda: hijack(model.unet))
        assert isinstance(error, RuntimeError) and "'MainThread'" in str(error) and "'t0'" in str(error)
        assert len(hijacked_modules(model.unet)) == 20
    assert model.is_as_before()

def test_autograds_own_thread_may_run_a_checkpointed_step_again(model):
    "On a GPU the backward pass runs in a thread that `threading` does not know; one of that kind is made here"
    done, raised = threading.Event(), []
    def backward():
        try: loss.backward()
        except BaseException as e: raised.append(e)
        finally: done.set()
    latent = LATENT.clone().requires_grad_()
    with hijacked(model.unet, Capture(max_queries=16)) as h:
        def energy(x):
            model.predict(x)
            return sum(a.square().sum() for a in h.store.values())
        loss = checkpoint(energy, latent, use_reentrant=False)
        kept = dict(h.store)
        _thread.start_new_thread(backward, ())
        assert done.wait(60) and not raised
        assert latent.grad.abs().sum() > 0 and h.store.keys() == kept.keys()
        assert not any(h.store[n] is a for n, a in kept.items())
        done.clear()
        _thread.start_new_thread(lambda: (in_foreign(model, raised), done.set()), ())
        assert done.wait(60) and "one thread at a time" in str(raised[0])
    assert model.is_as_before()

def in_foreign(model, raised):
    "A plain call in such a thread, outside of any backward pass"
    try: model.predict()
    except RuntimeError as e: raised.append(e)
