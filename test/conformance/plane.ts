// The conformance suite on one plane, here: `plane.ts PLANE [SCENARIO...]`. TAP on standard output, one test a scenario; one that cannot
// be here is skipped with the reason. main.ts runs this on each kernel.

import t, { type Test } from 'tap'
import { probeShaping } from '#overlay/shaping/probe.ts'
import { delayAsked } from '../lab/scenarios/agent.ts'
import { attacks } from '../lab/scenarios/attacks.ts'
import { PLANE_SCENARIOS, type Scenario } from '../lab/scenarios/plane.ts'
import { delay, rates } from '../lab/scenarios/shaping.ts'
import { SWITCH_SCENARIOS } from '../lab/scenarios/switch.ts'
import { noFilters, type Plane } from '../lab/stage.ts'
import { isPlane } from './matrix.ts'

const [plane = '', ...chosen] = process.argv.slice(2)
if (!isPlane(plane)) throw new Error(`no plane ${plane}`)
const { support, features } = probeShaping()
const noRates =
  plane === 'ovs-netdev'
    ? 'it takes what containers send before their queues'
    : !support.rate && (features.find(({ name }) => name === 'rate')?.detail ?? 'no rates')
const NOT_HERE: Readonly<Record<string, string | false>> = {
  rates: noRates,
  delayAsked: noRates,
  gateway: noFilters,
  egress: noFilters,
  attacks: plane === 'linux' && noFilters,
  delay: support.delay ? false : 'no netem'
}

// tap's own 30 s for the whole process; whoever started us has a bound.
t.setTimeout(0)
for (const [name, scenario] of Object.entries(scenariosOf(plane))) {
  if (chosen.length > 0 && !chosen.includes(name)) continue
  t.test(name, { timeout: 120_000, skip: NOT_HERE[name] ?? false }, (t: Test) => scenario(t, plane))
}

/** What is Open vSwitch's alone does not depend on the datapath: on the slow kernel only what the page says of it. */
function scenariosOf(plane: Plane): Readonly<Record<string, Scenario>> {
  const common = { ...PLANE_SCENARIOS, attacks, rates, delay, delayAsked }
  if (plane === 'linux') return common
  const { documented } = SWITCH_SCENARIOS
  return plane === 'ovs-system' ? { ...common, documented } : { ...common, ...SWITCH_SCENARIOS }
}
