// The programs of a host are opened in its namespace, with the maps of those that run on its devices.

import { readdirSync } from 'node:fs'
import t, { type Test } from 'tap'
import type { Mac } from '#model/mac.ts'
import { closeDatapath, PROGRAMS, type Datapath } from '#overlay/bpf/datapath.ts'
import { PROGRAM_PRIORITY } from '#overlay/bpf/filter.ts'
import { openDatapath } from '#overlay/bpf/open.ts'
import { createVeth } from '#overlay/netlink/link.ts'
import { createClsact, setProgramFilter } from '#overlay/netlink/tc.ts'
import { word } from '#overlay/plan/programs/entries.ts'
import { NetlinkSocket } from '#platform/netlink-socket.ts'
import { newNetns } from '../../platform/new-netns.ts'
import { asNobody } from './nobody.ts'

const skip = process.getuid?.() === 0 ? false : 'needs root: BPF programs'

function descriptors(): number {
  return readdirSync('/proc/self/fd').length
}

function open(t: Test, netns: string): Datapath {
  const datapath = openDatapath(netns)
  t.teardown(() => closeDatapath(datapath))
  return datapath
}

/** Runs a program on a new device of the namespace, as an agent would that then ends. */
function run(t: Test, netns: string, datapath: Datapath, name: string): void {
  const socket = NetlinkSocket.open(netns)
  const peer = { name: 'peer0', mac: '02:00:00:00:00:01' as Mac }
  socket.request(createVeth({ name: 've0', mtu: 1_500, group: 0, peer }), 'create veth')
  const program = datapath.programs.get(name)?.fd ?? -1
  // The first device after the loopback device, and its peer.
  for (const ifindex of [2, 3]) {
    const filter = setProgramFilter({ ifindex, priority: PROGRAM_PRIORITY, program, name })
    const [, refused] = socket.batch([createClsact(ifindex), filter], 'attach')
    t.equal(refused, null)
  }
  socket.close()
}

function ports(datapath: Datapath): number {
  return datapath.maps.get('vxm_ports')?.entries().length ?? -1
}

t.test('maps go on if a device of the namespace runs their programs, and in no other namespace', { skip }, async t => {
  const [netns, other] = [await newNetns(t), await newNetns(t)]
  const before = descriptors()
  const first = openDatapath(netns)
  t.same([...first.programs.keys()], PROGRAMS)
  t.equal(descriptors(), before + first.programs.size + first.maps.size, 'the socket is closed')
  first.maps.get('vxm_ports')?.set([{ key: word(7), value: new Uint8Array(20) }])
  t.equal(ports(open(t, netns)), 0, 'while none runs')
  run(t, netns, first, 'from_container')
  closeDatapath(first)
  const second = open(t, netns)
  t.equal(ports(second), 1)
  t.equal(second.programs.get('from_container')?.same.size, 2, 'the running one, and itself')
  t.equal(ports(open(t, other)), 0)
})

t.test('a namespace that is none is refused, and nothing stays open', async t => {
  const before = descriptors()
  t.throws(() => openDatapath('/no/such/namespace'), { code: 'ERR_NETNS' })
  t.throws(() => openDatapath('/dev/null'), { code: 'ERR_NETNS' })
  t.equal(descriptors(), before)
})

t.test('without privileges the reason is told, and nothing stays open', async t => {
  const before = descriptors()
  t.throws(() => asNobody(() => openDatapath(null)), {
    code: 'ERR_UNSUPPORTED',
    message: /EPERM|EACCES|not permitted/i
  })
  t.equal(descriptors(), before)
})
