// Flows through ovs-ofctl(8), with a program under its name.

import t, { type Test } from 'tap'
import { parseVni } from '#model/ids.ts'
import { Ofctl } from '#overlay/ovs/ofctl.ts'
import type { FlowChange } from '#overlay/plan/network/switch.ts'
import { bundleOf, cookieOf } from '#overlay/plan/switch/flow.ts'
import { ofctlProgram } from './ofctl-program.ts'

const red = parseVni(0xabc)
const dumpLine = (key: string, actions: string): string => ` cookie=${cookieOf(red)}, ${key} actions=${actions}\n`
const change: FlowChange = { owner: red, set: new Map([['priority=2', 'drop']]), remove: ['priority=1'] }

function setUp(t: Test) {
  return { ofctl: new Ofctl('/run/vb.mgmt'), ...ofctlProgram(t) }
}

t.test('our flows are read from the dump, foreign ones are not', async t => {
  const { ofctl, put, calls } = setUp(t)
  put('dump', `OFPST_FLOW reply\n${dumpLine('priority=1', 'drop')} cookie=0x1, priority=9 actions=drop\n`)
  t.same(await ofctl.flows(), new Map([[red, new Map([['priority=1', 'drop']])]]))
  t.same(calls(), ['-O OpenFlow14 --no-stats --no-names dump-flows unix:/run/vb.mgmt'])
})

t.test("one owner's flows come from the cache until it is invalidated", async t => {
  const { ofctl, put, calls } = setUp(t)
  put('dump', dumpLine('priority=1', 'drop'))
  t.same((await ofctl.flowsOf(red)).get(red), new Map([['priority=1', 'drop']]))
  t.same(await ofctl.flowsOf(parseVni(5)), new Map(), 'an owner without flows')
  t.equal(calls().length, 1)
  ofctl.invalidate()
  await ofctl.flowsOf(red)
  t.equal(calls().length, 2)
})

t.test('a change is one bundle, and updates the cache', async t => {
  const { ofctl, put, get, calls } = setUp(t)
  put('dump', dumpLine('priority=1', 'drop'))
  await ofctl.flows()
  await ofctl.change([change])
  t.equal(get('input'), bundleOf([change]))
  t.same((await ofctl.flowsOf(red)).get(red), new Map([['priority=2', 'drop']]))
  t.equal(calls().length, 2, 'no dump was needed')
  await ofctl.change([{ owner: red, set: new Map(), remove: [] }])
  t.equal(calls().length, 2, 'an empty change runs nothing')
})

t.test('a refused change is an error with the program’s message, and invalidates the cache', async t => {
  const { ofctl, put, calls } = setUp(t)
  await ofctl.flows()
  put('refusal', 'ovs-ofctl: bundle failed\nOFPBFC_MSG_FAILED\n')
  await t.rejects(ofctl.change([change]), {
    code: 'ERR_KERNEL',
    message: 'change flows: ovs-ofctl: bundle failed OFPBFC_MSG_FAILED',
    context: { exitCode: 1 }
  })
  await t.rejects(ofctl.flows(), { code: 'ERR_KERNEL', message: /^read flows/ })
  put('refusal', '')
  await ofctl.flowsOf(red)
  t.equal(calls().length, 4, 'the flows are dumped again')
})

t.test('a switch in the default fragment mode is told apart, and set', async t => {
  const { ofctl, put, calls } = setUp(t)
  for (const [mode, matching] of [
    ['normal\n', false],
    ['nx-match\n', true],
    ['', false]
  ] as const) {
    put('frags', mode)
    t.equal(await ofctl.matchesFragments(), matching, mode)
  }
  await ofctl.enableFragmentMatching()
  t.equal(calls().at(-1), '-O OpenFlow14 set-frags unix:/run/vb.mgmt nx-match')
})

t.test('a program that is not installed is an error that says what it was for', async t => {
  const { ofctl } = setUp(t)
  process.env['PATH'] = '/nonexistent'
  await t.rejects(ofctl.flows(), { code: 'ERR_KERNEL', message: /^read flows: / })
})
