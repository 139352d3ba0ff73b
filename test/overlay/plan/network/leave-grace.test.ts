import t from 'tap'
import type { PeerId } from '#model/ids.ts'
import type { MemberStatus } from '#model/member.ts'
import { desired } from '#overlay/plan/network/desired.ts'
import { LEAVE_GRACE_MS, LeaveGrace } from '#overlay/plan/network/leave-grace.ts'
import { byNetwork, makeEndpoint, makeHost, makeNetwork, peer } from '../../fixtures.ts'

const of = (status: MemberStatus): ReadonlyMap<PeerId, MemberStatus> => new Map([[peer(2), status]])

t.test('a host that leaves keeps its entries for the grace, and loses them after it', async t => {
  const grace = new LeaveGrace()
  const red = makeNetwork('red', 4097)
  const entries = (status: MemberStatus, nowMs: number): readonly number[] => {
    const { networks, peers } = desired({
      self: peer(1),
      selfVtep: makeHost(1).vtep,
      networks: [red],
      endpoints: byNetwork([
        makeEndpoint(red, { container: 'c1', host: 1, address: '10.1.0.2' }),
        makeEndpoint(red, { container: 'c2', host: 2, address: '10.1.0.3' })
      ]),
      hosts: [makeHost(1), makeHost(2)],
      memberStatus: grace.apply(of(status), nowMs),
      overlayMtu: 1450,
      vxlanPort: 4789
    })
    const network = networks.get(red.vni)
    return [network?.flood.size ?? -1, network?.entries.size ?? -1, [...peers.values()].length]
  }
  t.strictSame(entries('alive', 0), [1, 1, 1])
  t.strictSame(entries('left', 1_000), [1, 1, 1])
  t.equal(grace.remainingMs(2_000), LEAVE_GRACE_MS - 1_000)
  t.strictSame(entries('left', 1_000 + LEAVE_GRACE_MS - 1), [1, 1, 1])
  t.strictSame(entries('left', 1_000 + LEAVE_GRACE_MS), [0, 0, 0])
  t.equal(grace.remainingMs(1_000 + LEAVE_GRACE_MS), null)
  t.strictSame(entries('left', 10 * LEAVE_GRACE_MS), [0, 0, 0], 'once')
})

t.test('a host that returns within the grace gets a full grace the next time', async t => {
  const grace = new LeaveGrace()
  grace.apply(of('alive'), 0)
  grace.apply(of('left'), 1_000)
  t.equal(grace.apply(of('alive'), 5_000).get(peer(2)), 'alive')
  t.equal(grace.remainingMs(5_000), null)
  grace.apply(of('left'), 6_000)
  t.equal(grace.apply(of('left'), 6_000 + LEAVE_GRACE_MS - 1).get(peer(2)), 'leaving')
})

t.test('a leave that is older than the view, and a failure, get no grace', async t => {
  const grace = new LeaveGrace()
  t.equal(grace.apply(of('left'), 0).get(peer(2)), 'left')
  t.equal(grace.remainingMs(0), null)
  t.equal(grace.apply(of('failed'), 1).get(peer(2)), 'failed')
  t.equal(grace.apply(of('left'), 2).get(peer(2)), 'leaving', 'after a failure it has')
})

t.test('the same statuses give the same map until a grace begins or ends', async t => {
  const grace = new LeaveGrace()
  const [alive, left] = [of('alive'), of('left')]
  t.equal(grace.apply(alive, 0), alive)
  const during = grace.apply(left, 1)
  t.strictSame(grace.leaving, [peer(2)])
  t.equal(grace.apply(left, 2), during)
  t.equal(grace.apply(left, 1 + LEAVE_GRACE_MS), left)
  t.strictSame(grace.leaving, [])
})

t.test('a member that Serf forgets is forgotten here, too', async t => {
  const grace = new LeaveGrace()
  grace.apply(of('alive'), 0)
  grace.apply(of('left'), 1)
  t.equal(grace.apply(new Map(), 2).get(peer(2)), undefined)
  t.equal(grace.remainingMs(2), null)
})
