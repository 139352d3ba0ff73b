// The Open vSwitch driver on namespace hosts, each with an Open vSwitch of its own and the userspace datapath (this kernel
// has no openvswitch module). ovs-vsctl(8) and ovs-ofctl(8) are the oracle.

import t from 'tap'
import { OpenVSwitch } from '../lab/open-vswitch.ts'
import { attacks } from '../lab/scenarios/attacks.ts'
import { PLANE_SCENARIOS } from '../lab/scenarios/plane.ts'
import { SWITCH_SCENARIOS } from '../lab/scenarios/switch.ts'
import { cannotRun } from './overlay-lab.ts'

const skip = cannotRun() || (await OpenVSwitch.cannotRun())

for (const [name, scenario] of Object.entries({ ...PLANE_SCENARIOS, attacks, ...SWITCH_SCENARIOS })) {
  t.test(name, { skip, timeout: 120_000 }, t => scenario(t, 'ovs-netdev'))
}
