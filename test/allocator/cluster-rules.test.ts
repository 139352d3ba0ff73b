// The rules of the cluster: who raises them, what they hold off, and who is too old for them (docs/adr/0054).

import t from 'tap'
import { whyNotAdmitted, whyNotYet } from '#allocator/admission.ts'
import { whyTooOld } from '#allocator/cluster-rules.ts'
import { verify } from '#allocator/consistency.ts'
import { digestOf } from '#allocator/digest.ts'
import { refuseOldRules } from '#allocator/refuse.ts'
import { decodeState, encodeState } from '#allocator/snapshot.ts'
import { StateBuilder } from '#allocator/state-builder.ts'
import { StateCursor } from '#allocator/state-cursor.ts'
import { ClusterState } from '#allocator/state-machine.ts'
import { vacated } from '#allocator/vacate.ts'
import { BOTH_FAMILIES, FIRST_RULES, LABELS, POLICIES, RULES, SERVICES, UNGATED_RULES } from '#model/command.ts'
import {
  addSubnet,
  attach,
  brief,
  Caller,
  create,
  detach,
  makeHost,
  NEW,
  NEWER,
  NEWEST,
  OLD,
  peer,
  police,
  register,
  relabel,
  removeHost,
  repolice,
  reserve,
  serve,
  testRefusals,
  unpolice,
  unserve
} from './fixtures.ts'

/** As from a snapshot file. */
function inSections(state: ClusterState): ClusterState {
  const [cursor, builder] = [new StateCursor(state), new StateBuilder()]
  for (let section = cursor.next(); section !== null; section = cursor.next()) builder.add(section)
  return builder.finish()
}

/** h1 is new, h2 is old. */
function mixed(): Caller {
  const caller = Caller.ready()
  caller.rules = RULES
  caller.do(register(1, { version: NEW }))
  return caller
}

testRefusals(t, () => Caller.raised(), [
  { what: 'a host of an old version', command: register(3, { version: OLD }), refused: 'ERR_UNSUPPORTED version' },
  { what: 'a host that becomes old again', command: register(2, { version: OLD }), refused: 'ERR_UNSUPPORTED version' },
  {
    what: 'a host of the version before',
    command: register(3, { version: NEWER }),
    refused: 'ERR_UNSUPPORTED version'
  },
  { what: 'a host of no version', command: register(3, { version: 'main' }), refused: 'ERR_UNSUPPORTED version' },
  {
    what: 'an old version, whatever else is wrong',
    command: register(3, { name: 'h1', version: OLD }),
    refused: 'ERR_UNSUPPORTED version'
  }
])

t.test('the rules are raised by the entry with which the last old host is new', t => {
  const caller = mixed()
  t.equal(new Caller().state.rules, UNGATED_RULES)
  t.equal(caller.state.rules, UNGATED_RULES)
  caller.do(register(3, { version: OLD }))
  caller.do(register(2, { version: NEW }))
  t.equal(caller.state.rules, UNGATED_RULES)
  caller.do(register(3, { version: '0.4.1' }))
  t.equal(caller.state.rules, RULES)
  t.same(verify(caller.state), [])
  t.end()
})

t.test('they are raised once more when all hosts know newer ones', t => {
  const caller = mixed()
  caller.do(register(2, { version: NEWER }))
  t.equal(caller.state.rules, BOTH_FAMILIES)
  t.same(verify(caller.state), [])
  t.equal(brief(caller.try(register(3, { version: OLD }))), 'ERR_UNSUPPORTED version')
  caller.do(register(3, { version: NEWER }))
  caller.do(register(2, { version: NEW }))
  t.equal(caller.state.rules, BOTH_FAMILIES)
  caller.do(register(3, { version: NEW }))
  t.equal(caller.state.rules, RULES)
  t.same(verify(caller.state), [])
  t.end()
})

t.test('a cluster starts with the rules of its first host', t => {
  for (const [version, rules] of [
    [OLD, UNGATED_RULES],
    [NEWER, BOTH_FAMILIES],
    [NEWEST, LABELS],
    [NEW, RULES]
  ] as const) {
    const caller = new Caller()
    caller.do(register(1, { version }))
    t.equal(caller.state.rules, rules)
  }
  t.end()
})

t.test('a refused registration raises nothing', t => {
  const caller = mixed()
  t.equal(brief(caller.try(register(2, { name: 'h1', version: NEW }))), 'ERR_HOST_EXISTS name')
  t.equal(caller.state.rules, UNGATED_RULES)
  t.end()
})

t.test('an old host that goes is no obstacle', t => {
  const caller = mixed()
  caller.do(removeHost('h2'))
  t.equal(caller.state.rules, RULES)
  t.end()
})

t.test(
  'a replica raises them at the same entry, whether it applied the entries or took a snapshot of an old version',
  t => {
    const caller = Caller.ready()
    caller.do(register(1, { version: NEW }))
    caller.do(register(2, { version: NEW }))
    const { tables, sessions, appliedIndex } = caller.state
    const digest = digestOf(caller.state)
    for (const rules of [UNGATED_RULES, BOTH_FAMILIES, LABELS, SERVICES]) {
      tables.rules = rules
      const old = new ClusterState({ tables, sessions, appliedIndex })
      t.equal('rules' in encodeState(old), rules > UNGATED_RULES)
      for (const copy of [decodeState(encodeState(old)), inSections(old)]) {
        t.equal(copy.rules, RULES)
        t.equal(digestOf(copy), digest)
      }
    }
    t.end()
  }
)

t.test('they stay raised when all hosts have gone, and in a restored backup', t => {
  const caller = Caller.raised()
  caller.do(attach('red', 'c1'))
  const copy = vacated(caller.state)
  t.equal(copy.rules, RULES)
  t.same(verify(copy), [])
  const there = new Caller(copy, 's9')
  t.equal(brief(there.try(register(9, { version: OLD }))), 'ERR_UNSUPPORTED version')
  there.do(register(9, { version: NEW }))
  for (const name of ['h1', 'h2']) caller.do(removeHost(name))
  t.equal(caller.state.rules, RULES)
  t.end()
})

t.test('a vacant host of an old version is no obstacle: nothing runs there', t => {
  const caller = Caller.ready()
  caller.do(attach('red', 'c1'))
  const there = new Caller(vacated(caller.state), 's9')
  there.do(register(9, { version: NEW }))
  t.equal(there.state.rules, RULES)
  t.same(verify(there.state), [])
  t.end()
})

t.test('a request is applied by its own rules or the cluster’s, whichever are older', t => {
  for (const [request, raised, isAccepted] of [
    [RULES, false, false],
    [UNGATED_RULES, false, false],
    [UNGATED_RULES, true, false],
    [FIRST_RULES, true, false],
    [RULES, true, true]
  ] as const) {
    const caller = raised ? Caller.raised() : Caller.ready()
    caller.rules = request
    const outcome = caller.try(create('six', { subnet: 'fd00::/64' }))
    t.equal(brief(outcome), isAccepted ? 'ok' : 'ERR_UNSUPPORTED subnet', `${request} of ${caller.state.rules}`)
  }
  t.end()
})

t.test('ungated rules apply whatever the cluster’s are', t => {
  const caller = Caller.ready()
  caller.do({ ...create('a', { subnet: '10.5.0.0/24' }), hostAccess: true })
  for (const rules of [2, 3, 4, 5, 6, 7]) {
    caller.rules = rules
    const overlapping = { ...create('b', { subnet: '10.5.0.0/24' }), hostAccess: true }
    t.equal(brief(caller.try(overlapping)), 'ERR_ADDRESS_IN_USE subnet')
  }
  t.end()
})

t.test('the rules are in the digest once they were raised', t => {
  const { state } = Caller.raised()
  const raised = digestOf(state)
  state.tables.rules = UNGATED_RULES
  t.not(digestOf(state), raised)
  t.end()
})

t.test('who is too old is told what to upgrade to', t => {
  const { tables } = Caller.raised().state
  t.equal(whyTooOld(tables, makeHost(3, { version: NEW })), null)
  t.match(whyTooOld(tables, makeHost(3, { version: OLD })), {
    error: {
      code: 'ERR_UNSUPPORTED',
      field: 'version',
      message: /0\.1\.0 does not know .* upgrade vxmesh on this host to 0\.4/
    }
  })
  t.equal(whyTooOld(Caller.ready().state.tables, makeHost(3, { version: 'none' })), null, 'before they are raised')
  t.match(refuseOldRules(Caller.ready().state.tables, 'address'), {
    error: { code: 'ERR_UNSUPPORTED', field: 'address', message: /^address: IPv6 needs .* to 0\.2 on h1, h2 first$/ }
  })
  const caller = mixed()
  caller.do(register(2, { version: NEWER }))
  t.match(refuseOldRules(caller.state.tables, 'labels', LABELS), {
    error: { code: 'ERR_UNSUPPORTED', field: 'labels', message: /^labels: labels need .* to 0\.3 on h2 first$/ }
  })
  t.match(refuseOldRules(caller.state.tables, 'name', SERVICES), {
    error: { code: 'ERR_UNSUPPORTED', field: 'name', message: /^name: services need .* to 0\.4 on h2 first$/ }
  })
  t.match(refuseOldRules(caller.state.tables, 'name', POLICIES), {
    error: { code: 'ERR_UNSUPPORTED', field: 'name', message: /^name: policies need .* to 0\.4 on h2 first$/ }
  })
  t.end()
})

t.test(
  'a proposer, and the leader for a client, keep IPv6, labels, services and policies out of the log until the rules are raised',
  t => {
    const admitted = (caller: Caller, command: Parameters<typeof whyNotYet>[1]): (string | null)[] => {
      const from = { peer: peer(2), addresses: () => [], vteps: [] }
      return [whyNotYet(caller.state, command), whyNotAdmitted(caller.state, command, from)].map(refused =>
        refused === null ? null : brief(refused)
      )
    }
    for (const [field, command] of [
      ['subnet', create('six', { subnet: 'fd00::/64' })],
      ['subnet', create('both', { subnet: '10.3.0.0/24', subnet6: 'fd00::/64' })],
      ['subnet', addSubnet('red', 'fd00::/64')],
      ['address', attach('red', 'x', { address: 'fd00::5', host: 2 })],
      ['address', attach('red', 'x', { address6: 'fd00::5', host: 2 })]
    ] as const) {
      const refused = `ERR_UNSUPPORTED ${field}`
      t.same(admitted(mixed(), command), [refused, refused])
      t.same(admitted(Caller.raised(), command), [null, null])
    }
    for (const command of [
      create('four'),
      attach('red', 'x', { address: '10.1.0.9', labels: {} }),
      relabel('x', {}),
      detach('x')
    ])
      t.same(admitted(mixed(), command), [null, null])
    const almost = mixed()
    almost.do(register(2, { version: NEWER }))
    for (const command of [
      attach('red', 'x', { labels: { app: 'web' } }),
      attach('red', 'x', { labels: { app: 'web' }, address6: 'fd00::5' }),
      relabel('x', { app: null })
    ]) {
      for (const caller of [mixed(), almost]) {
        const refused = 'ERR_UNSUPPORTED labels'
        t.same(admitted(caller, command), [refused, refused])
      }
      t.same(admitted(Caller.raised(), command), [null, null])
    }
    t.same(admitted(almost, create('six', { subnet: 'fd00::/64' })), [null, null])
    almost.do(register(2, { version: NEWEST }))
    const [services, policies] = [
      [serve('red', 'web'), reserve('red', 'web', {}), unserve('red', 'web')],
      [police('red', 'db'), repolice('red', 'db', {}), unpolice('red', 'db')]
    ]
    for (const command of [...services, ...policies]) {
      for (const caller of [mixed(), almost]) t.same(admitted(caller, command), Array(2).fill('ERR_UNSUPPORTED name'))
      t.same(admitted(Caller.raised(), command), [null, null])
    }
    t.same(admitted(almost, relabel('x', { app: null })), [null, null])
    t.end()
  }
)
