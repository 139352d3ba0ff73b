// Which changes of links by other programs wake the reconcile loop. ip(8) makes them.

import t from 'tap'
import type { Vni } from '#model/ids.ts'
import { watchChanges } from '#overlay/linux/watch.ts'
import { systemClock } from '#platform/clock.ts'
import { ip, must } from '../../lab/kernel.ts'
import { cannotRun } from '../../lab/requirements.ts'
import { waitFor } from '../../lab/wait.ts'

t.test('a new bridge of another program concerns all networks, once', { skip: cannotRun() }, async t => {
  const namespace = `vxlab-watch-${process.pid}`
  await must('ip', ['netns', 'add', namespace])
  t.teardown(() => must('ip', ['netns', 'del', namespace]))
  const heard: (ReadonlySet<Vni> | null)[] = []
  const stop = watchChanges({
    netns: `/run/netns/${namespace}`,
    clock: systemClock,
    listener: networks => heard.push(networks),
    own: [],
    networkOf: () => undefined,
    underlay: () => null,
    mattersToAll: () => false
  })
  t.teardown(stop)
  let marks = 0
  /** Was all to be looked at after a change? Notifications keep their order: that of a network's device, made later, ends its own. */
  const toldOf = async (change: string): Promise<boolean> => {
    const before = heard.length
    await ip(namespace, change)
    const vni = ++marks as Vni
    await ip(namespace, `link add vb${vni.toString(16).padStart(6, '0')} type bridge`)
    await waitFor('all, or the device, is to be looked at', () =>
      heard.slice(before).some(networks => networks === null || networks.has(vni))
    )
    return heard.slice(before).includes(null)
  }
  t.equal(await toldOf('link add br1 type bridge'), true, 'it is made')
  t.equal(await toldOf('link set br1 mtu 1400'), false, 'it is changed')
  t.equal(await toldOf('link add veth1 type veth peer name veth2'), false, 'a device of another kind')
  t.equal(await toldOf('link set br1 name br2'), true, 'it has another name')
  t.equal(await toldOf('link del br2'), false, 'it is deleted')
  t.equal(await toldOf('link add br2 type bridge'), true, 'another one has its name')
})
