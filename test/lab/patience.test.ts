import fc from 'fast-check'
import t from 'tap'
import { Patience, type MachineLoad } from './patience.ts'

/** A machine with two processors whose load a test sets. */
class Machine {
  nowMs = 0
  running = 1
  readonly #read = (): MachineLoad => ({ nowMs: this.nowMs, running: this.running, processors: 2 })
  readonly patience = (budgetMs: number): Patience => new Patience(budgetMs, this.#read)
}

t.test('on an idle machine a deadline is one of the wall clock', t => {
  const m = new Machine()
  const patience = m.patience(1_000)
  for (const [nowMs, running, over] of [
    [500, 1, false],
    [1_000, 2, false],
    [1_001, 1, true]
  ] as const) {
    Object.assign(m, { nowMs, running })
    t.equal(patience.isOver(), over, `after ${nowMs} ms`)
  }
  t.equal(patience.elapsedMs, 1_001)
  t.end()
})

t.test('while twice as many processes run as there are processors, it takes twice as long', t => {
  const m = new Machine()
  const patience = m.patience(1_000)
  for (const [nowMs, running, over] of [
    [1_000, 4, false],
    [1_990, 4, false],
    [2_010, 4, true]
  ] as const) {
    Object.assign(m, { nowMs, running })
    t.equal(patience.isOver(), over, `after ${nowMs} ms`)
  }
  t.end()
})

t.test('it is over between the budget and ten times the budget, whatever the load', t => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 10_000 }), { minLength: 1, maxLength: 200 }), loads => {
      const m = new Machine()
      const patience = m.patience(1_000)
      let nowMs = 0
      for (const running of loads) {
        nowMs += 100
        Object.assign(m, { nowMs, running })
        const over = patience.isOver()
        if (nowMs <= 1_000 && over) return false
        if (nowMs > 10_000 && !over) return false
      }
      return true
    })
  )
  t.end()
})

t.test('the machine’s own load is read', t => {
  t.notOk(new Patience(10_000).isOver())
  t.ok(new Patience(-1).isOver())
  t.end()
})
