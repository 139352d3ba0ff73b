// Judges this host's agent: its registration, its copy of the state, its kernel. Pure.

import type { FindingView } from '#model/views.ts'
import type { MeshFacts } from './facts.ts'
import { failed, ok, some, warning } from './finding.ts'

/** Whether the network services of the cluster work for this host's containers. @param p.why they do not @param p.count how many there are */
export function judgeServices({ why, count }: { readonly why: string | null; readonly count: number }): FindingView {
  if (why === null) return ok('services', `${count}, led to by the programs at containers’ ports`)
  if (count === 0) return ok('services', `there are none; they would not work here: ${why}`)
  const todo =
    'set overlay.guard and overlay.driver to auto, on a kernel that docs/datapath.md lists, or keep clients of services on other hosts'
  return warning('services', `${count}, which this host’s containers do not reach: ${why}`, todo)
}

/** Full passes come every 30 s. */
const LATE_MS = 90_000
const STUCK_MS = 300_000
const LAG = 100

export function judgeAgent(facts: MeshFacts): readonly FindingView[] {
  return [registration(facts), feed(facts), sound(facts), passes(facts), drift(facts)]
}

function registration({ registered, registrarProblem }: MeshFacts): FindingView {
  if (registered) return ok('registered', 'the committed state has this host')
  const found = `the committed state does not hold this host: ${registrarProblem ?? 'not asked yet'}`
  return failed('registered', found, 'see the reason: no majority of servers, or another host has this name or VTEP')
}

function feed({ lag, current }: MeshFacts): FindingView {
  const todo = 'see `ports` and `quorum`; containers go on, changes of others arrive late'
  if (lag > LAG) return warning('feed', `${lag} entries behind what others have committed`, todo)
  if (!current)
    return warning('feed', 'no server has confirmed yet that this copy is current: nothing is removed', todo)
  return ok('feed', `current, ${lag} entries behind`)
}

function sound({ contradictions }: MeshFacts): FindingView {
  if (contradictions === null)
    return ok('state.sound', 'not checked: recounting so large a state would block the agent')
  if (contradictions.length === 0) return ok('state.sound', 'bit vectors and indexes match the rows')
  return failed('state.sound', some(contradictions), 'a fault of vxmesh: make a `vxmesh report`')
}

function passes({ fullPassAgeMs }: MeshFacts): FindingView {
  const todo = 'see the agent’s log for `reconcile pass failed`, and `degraded` in vxmesh status'
  if (fullPassAgeMs === null) return warning('reconcile', 'no full pass has succeeded yet', todo)
  const found = `the last full pass succeeded ${Math.round(fullPassAgeMs / 1_000)} s ago`
  if (fullPassAgeMs > STUCK_MS) return failed('reconcile', found, todo)
  return fullPassAgeMs > LATE_MS ? warning('reconcile', found, todo) : ok('reconcile', found)
}

function drift({ drift: left, degraded, repaired }: MeshFacts): FindingView {
  if (degraded.length > 0) return failed('overlay', some(degraded), 'see the reason; the agent retries by itself')
  const put = `${repaired} ${repaired === 1 ? 'change' : 'changes'} by others repaired since the start`
  if (left > 0)
    return warning('overlay', `${left} differences are left, ${put}`, 'wait a moment; if they stay: vxmesh status')
  return ok('overlay', `the kernel is as desired, ${put}`)
}
