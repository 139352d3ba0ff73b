// Policies: what changes them, who may, and everything that a state is written to.

import t from 'tap'
import { verify } from '#allocator/consistency.ts'
import { digestOf } from '#allocator/digest.ts'
import { getKv, listKv } from '#allocator/kv-view.ts'
import { MAX_POLICIES_PER_NETWORK } from '#allocator/quotas.ts'
import { decodeState, encodeState } from '#allocator/snapshot.ts'
import { StateCursor } from '#allocator/state-cursor.ts'
import type { ClusterState } from '#allocator/state-machine.ts'
import { vacated } from '#allocator/vacate.ts'
import { SERVICES, type Command } from '#model/command.ts'
import { parseNetworkName, parsePolicyName } from '#model/ids.ts'
import type { Policy } from '#model/policy.ts'
import { formatRule } from '#model/policy-text.ts'
import {
  attach,
  brief,
  Caller,
  contents,
  create,
  peer,
  police,
  remove,
  repolice,
  testRefusals,
  unpolice
} from './fixtures.ts'
import { built, plain, sections } from './sections.ts'

const RED = parseNetworkName('red')

function held(state: ClusterState, network: string, name: string): Policy {
  const policy = state.policy(parseNetworkName(network), parsePolicyName(name))
  if (policy === undefined) throw new Error(`no policy ${network}/${name}`)
  return policy
}

const texts = ({ rules }: Policy): string[] => rules.map(rule => `${rule.action} ${rule.direction} ${formatRule(rule)}`)

/** red with db, and blue without a policy. */
function ready(): Caller {
  const caller = Caller.raised()
  caller.do(create('blue', { subnet: '10.2.0.0/24' }))
  caller.do(police('red', 'db', { select: 'tier=db', ingress: ['from=tier=app,port=5432/tcp'] }))
  return caller
}

/** Every policy has everything that one may have. */
function full(): Caller {
  const caller = ready()
  const egress = ['to=cidr:10.0.0.0/8,except=10.1.0.0/16,port=53/udp,priority=7', 'to=cidr:fd00::/8,except=fd00:1::/64']
  caller.do(police('red', 'all', { select: '*', egress, deny: ['from=!tier+app!=web', 'port=echo/icmp'] }))
  caller.do(police('blue', 'db', { select: 'tier=db', closes: [], requestId: 'r1' }))
  return caller
}

t.test('a policy is what it was created with, and closes what it says or allows', t => {
  const { state } = full()
  t.same(texts(held(state, 'red', 'db')), ['allow ingress from=tier=app,port=5432/tcp'])
  t.same(held(state, 'red', 'db').closes, ['ingress'])
  t.same(held(state, 'red', 'all').closes, ['egress'])
  t.same(held(state, 'blue', 'db'), {
    network: 'blue',
    name: 'db',
    select: [{ key: 'tier', value: 'db' }],
    closes: [],
    rules: [],
    requestId: 'r1'
  })
  t.equal(state.policyCount, 3)
  t.same(
    state
      .policiesOf(RED)
      .map(({ name }) => name)
      .sort(),
    ['all', 'db']
  )
  t.same(state.policiesOf(parseNetworkName('none')), [])
  t.same(verify(state), [])
  t.end()
})

testRefusals(t, full, [
  { what: 'a policy of no network', command: police('none', 'x'), refused: 'ERR_NETWORK_NOT_FOUND network' },
  { what: 'a name that is in use', command: police('red', 'db'), refused: 'ERR_POLICY_EXISTS name' },
  {
    what: 'a name that is in use, by another request',
    command: police('blue', 'db', { requestId: 'r2' }),
    refused: 'ERR_POLICY_EXISTS name'
  },
  { what: 'an update of no policy', command: repolice('red', 'x', {}), refused: 'ERR_POLICY_NOT_FOUND name' },
  { what: 'an update in no network', command: repolice('none', 'db', {}), refused: 'ERR_NETWORK_NOT_FOUND network' },
  { what: 'the deletion of no policy', command: unpolice('red', 'x'), refused: 'ERR_POLICY_NOT_FOUND name' },
  { what: 'the deletion in no network', command: unpolice('none', 'db'), refused: 'ERR_NETWORK_NOT_FOUND network' },
  { what: 'the deletion of a network with policies', command: remove('blue'), refused: 'ERR_NETWORK_IN_USE name' }
])

t.test('a repeated creation gives the policy as it is, and changes nothing', t => {
  const caller = full()
  caller.do(repolice('blue', 'db', { ingress: ['from=*'] }))
  const before = contents(caller.state)
  const again = caller.try(police('blue', 'db', { requestId: 'r1', egress: ['any'] }))
  t.match(again, { ok: true, result: { created: false, policy: { closes: ['ingress'] } } })
  t.equal(contents(caller.state), before)
  t.end()
})

t.test('an update changes what it names; with rules alone, the policy closes what they say', t => {
  const caller = ready()
  const before = held(caller.state, 'red', 'db')
  const hash = caller.state.tables.hash.value
  caller.do(repolice('red', 'db', { select: 'tier=cache' }))
  t.same(held(caller.state, 'red', 'db'), { ...before, select: [{ key: 'tier', value: 'cache' }] })
  caller.do(repolice('red', 'db', { egress: ['any'] }))
  t.same(texts(held(caller.state, 'red', 'db')), ['allow egress any'])
  t.same(held(caller.state, 'red', 'db').closes, ['egress'])
  caller.do(repolice('red', 'db', { egress: ['any'], closes: ['ingress'] }))
  t.same(held(caller.state, 'red', 'db').closes, ['ingress'])
  caller.do(repolice('red', 'db', { closes: ['ingress', 'egress'] }))
  t.same(texts(held(caller.state, 'red', 'db')), ['allow egress any'])
  caller.do(repolice('red', 'db', { select: 'tier=db', ingress: ['from=tier=app,port=5432/tcp'] }))
  t.strictSame(held(caller.state, 'red', 'db'), before)
  t.same(caller.state.tables.hash.value, hash, 'back to the same hash')
  t.same(verify(caller.state), [])
  t.end()
})

t.test('an update that makes a policy too large is refused', t => {
  const caller = ready()
  const peers = Array.from({ length: 60 }, (_, n) => `from=k${n}=${'v'.repeat(50)}`).join(',')
  caller.do(repolice('red', 'db', { ingress: [peers, peers, peers] }))
  const long = Array.from({ length: 16 }, (_, n) => `${'k'.repeat(60)}${n}=${'v'.repeat(63)}`).join('+')
  const before = contents(caller.state)
  t.equal(brief(caller.try(repolice('red', 'db', { select: long }))), 'ERR_INVALID rules')
  t.equal(contents(caller.state), before)
  t.end()
})

t.test('each field of a policy is in the hash', t => {
  const hashes = [
    {},
    { select: 'tier' },
    { select: '!tier' },
    { select: 'tier=' },
    { select: 'tier!=' },
    { closes: [] },
    { closes: ['egress'] as const },
    { closes: ['ingress', 'egress'] as const },
    { requestId: 'r' },
    { ingress: ['any'] },
    { egress: ['any'] },
    { deny: ['any'] },
    { ingress: ['any', 'any'] },
    { ingress: ['priority=1'] },
    { ingress: ['from=*'] },
    { ingress: ['from=a'] },
    { ingress: ['from=a,from=b'] },
    { ingress: ['from=a+b'] },
    { ingress: ['from=cidr:10.0.0.0/8'] },
    { ingress: ['from=cidr:10.0.0.0/9'] },
    { ingress: ['from=cidr:10.0.0.0/8,except=10.1.0.0/16'] },
    { ingress: ['port=80/tcp'] },
    { ingress: ['port=80/udp'] },
    { ingress: ['port=80-81/tcp'] },
    { ingress: ['port=80/tcp,port=81/tcp'] }
  ].map(p => {
    const caller = Caller.raised()
    caller.do(police('red', 'x', p))
    return JSON.stringify(caller.state.tables.hash.value)
  })
  t.equal(new Set(hashes).size, hashes.length)
  t.end()
})

t.test('a network is deleted with its policies by force', t => {
  const caller = full()
  caller.do(remove('red', true))
  t.equal(caller.state.policyCount, 1)
  caller.do(create('red'))
  t.same(caller.state.policiesOf(RED), [])
  t.same(verify(caller.state), [])
  t.end()
})

t.test('a client host changes no policies, and deletes no network that has some', t => {
  for (const command of [police('red', 'x'), repolice('red', 'db', {}), unpolice('red', 'db'), remove('red', true)]) {
    for (const by of [undefined, peer(2)]) {
      const caller = ready()
      const request = { session: caller.session, seq: 99, settledBelow: 99, rules: caller.rules, command }
      const outcome = caller.send({ ...request, ...(by === undefined ? {} : { by }) })
      t.equal(
        brief(outcome),
        by === undefined ? 'ok' : 'ERR_NOT_ALLOWED name',
        `${command.kind} by ${by ?? 'a server'}`
      )
    }
  }
  t.end()
})

t.test('by older rules policies are refused, whatever the rules of the cluster', t => {
  for (const command of [police('red', 'x'), repolice('red', 'db', {}), unpolice('red', 'db')]) {
    const caller = ready()
    caller.rules = SERVICES
    t.equal(brief(caller.try(command)), 'ERR_UNSUPPORTED name')
  }
  t.end()
})

t.test('one policy more than a network may have is refused there, and one elsewhere is not', t => {
  const caller = ready()
  for (let n = 1; n < MAX_POLICIES_PER_NETWORK; n++) caller.do(police('red', `p${n}`))
  t.equal(brief(caller.try(police('red', 'x'))), 'ERR_LIMIT_REACHED network')
  caller.do(police('blue', 'x'))
  caller.do(unpolice('red', 'p1'))
  caller.do(police('red', 'x'))
  t.end()
})

t.test('policies survive a snapshot of either form, and so do answers about them', t => {
  const caller = full()
  const kept = { session: caller.session, seq: 500, settledBelow: 400, rules: caller.rules }
  const request = { ...kept, command: police('blue', 'kept', { ingress: ['from=cidr:::/0,port=tcp'], requestId: 'q' }) }
  const answer = caller.send(request)
  for (const copy of [
    decodeState(plain(encodeState(caller.state))),
    built(plain(sections(caller.state)) as unknown[])
  ]) {
    t.same(verify(copy), [])
    t.equal(digestOf(copy), digestOf(caller.state))
    t.same(encodeState(copy), encodeState(caller.state))
    t.strictSame(new Caller(copy, 's9').send(request), answer)
    t.equal(copy.policyCount, 4)
  }
  t.end()
})

t.test('a state that has no policy any more has the bytes that it had', t => {
  const before = Caller.raised()
  const form = (state: ClusterState): string => JSON.stringify([encodeState(state).networks, sections(state).length])
  const expected = form(before.state)
  before.do(police('red', 'x'))
  t.not(form(before.state), expected)
  before.do(unpolice('red', 'x'))
  t.equal(form(before.state), expected)
  t.notOk('policies' in encodeState(before.state))
  t.same(before.state.tables.policies.networks(), [])
  t.end()
})

t.test('a snapshot that is read in slices has the policies of its beginning', t => {
  const caller = full()
  const expected = sections(caller.state)
  const cursor = new StateCursor(caller.state, 2)
  const found = [cursor.next()]
  const commands: readonly Command[] = [
    unpolice('red', 'all'),
    repolice('red', 'db', { egress: ['any'] }),
    police('red', 'late'),
    remove('blue', true)
  ]
  for (const command of commands) caller.do(command)
  for (let section = cursor.next(); section !== null; section = cursor.next()) found.push(section)
  t.same(found, expected)
  t.end()
})

t.test('policies stay when a backup is restored', t => {
  const copy = vacated(full().state)
  t.same(verify(copy), [])
  t.same(texts(held(copy, 'red', 'db')), ['allow ingress from=tier=app,port=5432/tcp'])
  t.end()
})

t.test('rows that are no policies make a snapshot unusable', t => {
  const whole = encodeState(ready().state)
  const [row] = whole.policies ?? []
  if (row === undefined) throw new Error('no row')
  t.equal(decodeState({ ...whole, policies: [row] }).policyCount, 1)
  for (const policies of [
    [row, row],
    [{ ...row, network: 'none' }],
    [{ ...row, name: 'A' }],
    [{ ...row, select: 'tier=db' }],
    [{ ...row, closes: undefined }],
    [{ ...row, closes: ['out'] }],
    [{ ...row, rules: 'any' }],
    [{ ...row, rules: [{ direction: 'ingress' }] }],
    [7],
    7
  ])
    t.throws(
      () => decodeState({ ...whole, policies: policies as never }),
      { code: 'ERR_STORAGE' },
      JSON.stringify(policies)
    )
  t.end()
})

t.test('the key-value view shows policies as text, network by network', t => {
  const { state } = full()
  t.same(getKv(state, 'policy/red/all'), {
    network: 'red',
    name: 'all',
    select: '*',
    closes: ['egress'],
    rules: [
      {
        direction: 'egress',
        action: 'allow',
        rule: 'to=cidr:10.0.0.0/8,except=10.1.0.0/16,port=53/udp,priority=7'
      },
      { direction: 'egress', action: 'allow', rule: 'to=cidr:fd00::/8,except=fd00:1::/64' },
      { direction: 'ingress', action: 'deny', rule: 'from=!tier+app!=web' },
      { direction: 'ingress', action: 'deny', rule: 'port=8/icmp,port=128/icmp' }
    ]
  })
  for (const key of ['policy', 'policy/red', 'policy/red/none', 'policy/none/db', 'policy/red/db/x'])
    t.equal(getKv(state, key), undefined)
  const keys = listKv(state, { prefix: 'policy/' }).map(({ key }) => key)
  t.same(keys, ['policy/blue/db', 'policy/red/all', 'policy/red/db'])
  const all = listKv(state).map(({ key }) => key)
  t.same(all, all.toSorted(), 'in the order of all keys')
  t.same(
    listKv(state, { after: 'policy/red/all' }).map(({ key }) => key),
    ['policy/red/db', 'vlanStore']
  )
  t.end()
})

t.test('labels and addresses of endpoints have nothing to do with policies', t => {
  const caller = full()
  const before = caller.state.tables.policies.count
  caller.do(attach('red', 'c1', { labels: { tier: 'db' } }))
  t.equal(caller.state.tables.policies.count, before)
  t.equal(caller.address('red', 'c2'), '10.1.0.3', 'none is taken')
  t.end()
})

type Defect = { readonly what: string; readonly make: (state: ClusterState) => void; readonly found: RegExp }
const replaced =
  (change: (row: Policy) => Policy) =>
  (state: ClusterState): void => {
    const before = held(state, 'red', 'db')
    state.tables.policies.remove(before)
    state.tables.policies.add(change(before))
  }
const defects: readonly Defect[] = [
  {
    what: 'policies before the rules allow them',
    make: s => (s.tables.rules = SERVICES),
    found: /policies by rules 7/
  },
  {
    what: 'a policy of no network',
    make: replaced(row => ({ ...row, network: parseNetworkName('none') })),
    found: /network none has policies and is none/
  },
  {
    what: 'a selector that is none',
    make: replaced(row => ({ ...row, select: [{ key: '' }] })),
    found: /policy red\/db: select: /
  },
  {
    what: 'ports that are none',
    make: replaced(row => ({ ...row, rules: row.rules.map(rule => ({ ...rule, priority: -1 })) })),
    found: /policy red\/db: rules\[0\]\.priority: /
  }
]
for (const { what, make, found } of defects) {
  t.test(`found: ${what}`, t => {
    const { state } = ready()
    make(state)
    t.match(verify(state).join('\n'), found)
    t.end()
  })
}
