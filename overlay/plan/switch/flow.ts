// OpenFlow flows in the form in which ovs-ofctl(8) dumps them. Desired flows are written in the same canonical form, so
// that flows are compared as text. Pure.

import type { FlowChange, FlowOwner, Flows } from '../network/switch.ts'

/** The upper half of our flows' cookie ("vxm"). The lower half is the VNI, or 0 for flows of the whole host. */
const COOKIE_MARK = 0x76786d00n

export function cookieOf(owner: FlowOwner): string {
  return `0x${((COOKIE_MARK << 32n) | BigInt(owner)).toString(16)}`
}

/** Our flows in a dump (`--no-stats --no-names`), by owner. Flows with another cookie are skipped. */
export function parseFlows(dump: string): Map<FlowOwner, Map<string, string>> {
  const found = new Map<FlowOwner, Map<string, string>>()
  for (const line of dump.split('\n')) {
    const match = /^ cookie=(0x[0-9a-f]+), (.*) actions=(.*)$/.exec(line)
    if (match === null) continue
    const [, cookie = '0x0', key = '', actions = ''] = match
    const value = BigInt(cookie)
    if (value >> 32n !== COOKIE_MARK) continue
    const owner = Number(value & 0xffffffffn) as FlowOwner
    const flows = found.get(owner) ?? new Map<string, string>()
    flows.set(key, actions)
    found.set(owner, flows)
  }
  return found
}

/** The change that turns `have` into `want`. */
export function diffFlows(owner: FlowOwner, want: Flows, have: Flows): FlowChange {
  const set = new Map<string, string>()
  for (const [key, actions] of want) if (have.get(key) !== actions) set.set(key, actions)
  return { owner, set, remove: [...have.keys()].filter(key => !want.has(key)) }
}

/** The flows after the changes. */
export function afterChanges(
  before: ReadonlyMap<FlowOwner, Flows>,
  changes: readonly FlowChange[]
): ReadonlyMap<FlowOwner, Flows> {
  const all = new Map(before)
  for (const { owner, set, remove } of changes) {
    const flows = new Map(all.get(owner))
    for (const key of remove) flows.delete(key)
    for (const [key, actions] of set) flows.set(key, actions)
    all.set(owner, flows)
  }
  return all
}

/** Does the flow have fewer outputs than before? */
export function narrows(before: string | undefined, after: string): boolean {
  return before !== undefined && outputs(before) > outputs(after)
}

function outputs(actions: string): number {
  return actions.split(',').filter(action => action.startsWith('output:')).length
}

/** One bundle for `ovs-ofctl --bundle add-flows`. Deletions first: a new flow may have the match of a deleted one. */
export function bundleOf(changes: readonly FlowChange[]): string {
  const lines: string[] = []
  for (const { owner, remove } of changes) {
    for (const key of remove) lines.push(`delete_strict cookie=${cookieOf(owner)}/-1, ${key}`)
  }
  for (const { owner, set } of changes) {
    for (const [key, actions] of set) lines.push(`add cookie=${cookieOf(owner)}, ${key} actions=${actions}`)
  }
  return lines.map(line => `${line}\n`).join('')
}
