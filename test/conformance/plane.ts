// The conformance suite on one plane of this kernel: `plane.ts PLANE [SCENARIO...]`. Prints TAP, one test for each scenario;
// an impossible one is skipped with the reason. LAB_FAMILY chooses the families of its networks. main.ts runs this on each kernel.

import t, { type Test } from 'tap'
import { probeShaping } from '#overlay/shaping/probe.ts'
import { delayAsked } from '../lab/scenarios/agent.ts'
import { attacks, attacks6 } from '../lab/scenarios/attacks.ts'
import { PLANE_SCENARIOS, type Scenario } from '../lab/scenarios/plane.ts'
import { delay, rates } from '../lab/scenarios/shaping.ts'
import { SWITCH_SCENARIOS } from '../lab/scenarios/switch.ts'
import { families } from '../lab/families.ts'
import { noFilters, type Plane } from '../lab/stage.ts'
import { TEST_TIMEOUT_MS } from '../lab/wait.ts'
import { isPlane } from './matrix.ts'

const [plane = '', ...chosen] = process.argv.slice(2)
if (!isPlane(plane)) throw new Error(`no plane ${plane}`)
const { support, features } = probeShaping()
const noRates =
  plane === 'ovs-netdev'
    ? 'it takes what containers send before their queues'
    : !support.rate && (features.find(({ name }) => name === 'rate')?.detail ?? 'no rates')
const isSix = families === 'ipv6' && 'it is of IPv4'
const NOT_HERE: Readonly<Record<string, string | false>> = {
  ownAnswers: isSix,
  documented: families !== 'ipv4' && 'the page lists the flows of IPv4',
  rates: noRates,
  delayAsked: noRates,
  gateway: noFilters,
  egress: noFilters,
  attacks: isSix || (plane === 'linux' && noFilters),
  attacks6: plane === 'linux' && noFilters,
  delay: support.delay ? false : 'no netem'
}

// Disables tap's bound of 30 s for the process; main.ts bounds it.
t.setTimeout(0)
for (const [name, scenario] of Object.entries(scenariosOf(plane))) {
  if (chosen.length > 0 && !chosen.includes(name)) continue
  t.test(name, { timeout: TEST_TIMEOUT_MS, skip: NOT_HERE[name] ?? false }, (t: Test) => scenario(t, plane))
}

/** Scenarios specific to Open vSwitch do not depend on the datapath: the slow kernel runs only the documented listing. */
function scenariosOf(plane: Plane): Readonly<Record<string, Scenario>> {
  const common = { ...PLANE_SCENARIOS, attacks, attacks6, rates, delay, delayAsked }
  if (plane === 'linux' || plane === 'bpf') return common
  const { documented } = SWITCH_SCENARIOS
  return plane === 'ovs-system' ? { ...common, documented } : { ...common, ...SWITCH_SCENARIOS }
}
