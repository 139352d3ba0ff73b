// A part whose kernel is a set of words: missing words are added, surplus ones deleted. Ops on `refused` words fail.

import { VxmeshError } from '#model/errors.ts'
import type { Vni } from '#model/ids.ts'
import type { Concern, Look, OpNote, Part, PartPlan, PartProblem, PartResult } from '#overlay/pass.ts'

export type WordOp = { readonly kind: 'add' | 'delete'; readonly word: string }

export class FakePart implements Part<ReadonlySet<string>, WordOp> {
  readonly name: string
  readonly concern: Concern
  attempts = 1
  readonly kernel = new Set<string>()
  readonly desired = new Set<string>()
  readonly refused = new Set<string>()
  /** How many attempts find that another program changed the kernel meanwhile. */
  interrupted = 0
  observeError: Error | null = null
  planned: PartProblem[] = []
  vni: Vni | null = null
  repairs = false
  readonly looks: Look[] = []
  readonly left: (readonly PartProblem[])[] = []
  readonly #trace: string[]

  constructor(name: string, concern: Concern, trace: string[] = []) {
    this.name = name
    this.concern = concern
    this.#trace = trace
  }

  async observe(look: Look): Promise<ReadonlySet<string>> {
    this.#trace.push(`${this.name} observes`)
    this.looks.push(look)
    if (this.observeError !== null) throw this.observeError
    return new Set(this.kernel)
  }

  plan(_look: Look, observed: ReadonlySet<string>): PartPlan<WordOp> {
    const adds = [...this.desired].filter(word => !observed.has(word)).map(word => ({ kind: 'add', word }) as const)
    const deletes = [...observed]
      .filter(word => !this.desired.has(word))
      .map(word => ({ kind: 'delete', word }) as const)
    return { ops: [...adds, ...deletes], problems: this.planned }
  }

  async execute(ops: readonly WordOp[]): Promise<PartResult<WordOp>> {
    this.#trace.push(`${this.name} executes ${ops.map(({ kind, word }) => `${kind} ${word}`).join(', ')}`)
    if (this.interrupted > 0) {
      this.interrupted--
      return { done: [], failures: [], again: 'somebody else was faster' }
    }
    const done = ops.filter(({ word }) => !this.refused.has(word))
    for (const { kind, word } of done) {
      if (kind === 'add') this.kernel.add(word)
      else this.kernel.delete(word)
    }
    const failures = ops
      .filter(({ word }) => this.refused.has(word))
      .map(op => ({ op, problem: { vni: this.vni, error: new VxmeshError('ERR_KERNEL', `${op.word} is refused`) } }))
    return { done, failures, again: null }
  }

  note(op: WordOp): OpNote {
    const { kind, word } = op
    return { kind, vni: this.vni, removes: kind === 'delete', repairs: this.repairs, text: () => `${kind} ${word}` }
  }

  settled(_look: Look, _observed: ReadonlySet<string>, problems: readonly PartProblem[]): void {
    this.left.push(problems)
  }
}
