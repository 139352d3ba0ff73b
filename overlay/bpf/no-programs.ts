// In place of the programs when the guard is another one: stops those of an earlier run, once nftables has taken over.

import { asVxmeshError } from '#model/errors.ts'
import { readLinks, type Kernel } from '../kernel/kernel.ts'
import { getLinks } from '../netlink/link.ts'
import type { Look, OpNote, Part, PartPlan, PartProblem, PartResult } from '../pass.ts'
import { findPrograms, stopPrograms, type Running } from './filter.ts'

export class NoPrograms implements Part<readonly Running[], Running> {
  readonly name = 'programs'
  readonly concern = 'programs'
  readonly attempts = 1
  readonly #kernel: Kernel
  /** None is left of an earlier run, and this one attaches none. */
  #done = false

  constructor(kernel: Kernel) {
    this.#kernel = kernel
  }

  async observe({ scope }: Look): Promise<readonly Running[]> {
    await Promise.resolve()
    const { socket } = this.#kernel
    return this.#done || scope !== null ? [] : findPrograms(socket, readLinks(socket, getLinks()))
  }

  plan(_look: Look, observed: readonly Running[]): PartPlan<Running> {
    return { ops: observed, problems: [] }
  }

  async execute(ops: readonly Running[]): Promise<PartResult<Running>> {
    await Promise.resolve()
    const failures = ops.flatMap(op => {
      try {
        stopPrograms(this.#kernel.socket, [op])
        return []
      } catch (err) {
        return [{ op, problem: { vni: null, error: asVxmeshError(err) } }]
      }
    })
    return { done: ops.filter(op => !failures.some(failure => failure.op === op)), failures, again: null }
  }

  note(op: Running): OpNote {
    return { kind: 'program-detach', vni: null, removes: true, repairs: false, text: () => describe(op) }
  }

  settled({ scope, mayRemove }: Look, _observed: readonly Running[], problems: readonly PartProblem[]): void {
    if (scope === null && mayRemove && problems.length === 0) this.#done = true
  }
}

function describe({ program, device }: Running): string {
  return `stop ${program} on ${device}`
}
