// Figures of many rounds become those of the report: medians, and ratios as medians of each round's ratio. Pure.

import { median, rounded, type Figures } from '../report.ts'
import type { FormName, Reach } from './form.ts'
import { FIGURES, type Measured } from './measure.ts'

/** By form, one of each round, in the order of the rounds. */
export type Runs = Readonly<Record<Reach, ReadonlyMap<FormName, readonly Measured[]>>>

type ByReach<T> = Readonly<Record<Reach, T>>

const PAIRS = [
  ['bpf', 'hand'],
  ['bpf', 'linux'],
  ['bpf', 'routed']
] as const satisfies readonly (readonly [FormName, FormName])[]

export function medians(runs: Runs): ByReach<Readonly<Record<string, Figures>>> {
  return byReach(reach =>
    Object.fromEntries([...runs[reach]].map(([form, all]) => [form, each(name => median(all.map(run => run[name])))]))
  )
}

/** By pair of forms such as `bpf/hand`; only pairs of which both were measured. */
export function ratios(runs: Runs): ByReach<Readonly<Record<string, Figures>>> {
  return byReach(reach => {
    const pairs = PAIRS.map(([form, other]) => {
      const [all, others] = [runs[reach].get(form), runs[reach].get(other)]
      if (all === undefined || others === undefined) return []
      return [[`${form}/${other}`, each(name => median(all.map((run, n) => run[name] / (others[n]?.[name] ?? NaN))))]]
    })
    return Object.fromEntries(pairs.flat()) as Record<string, Figures>
  })
}

function each(figure: (name: keyof Measured) => number): Figures {
  return Object.fromEntries(FIGURES.map(name => [name, rounded(figure(name))]))
}

function byReach<T>(of: (reach: Reach) => T): ByReach<T> {
  return { hosts: of('hosts'), local: of('local') }
}
