import t from 'tap'
import { waitFor, waitForState } from './wait.ts'

t.test('the first value ends the wait, also 0 and the empty text', async t => {
  for (const value of [0, '', 'x', true, { a: 1 }]) {
    const values = [false, null, undefined, value]
    t.equal(await waitFor('a value', () => values.shift(), { everyMs: 1 }), value)
  }
})

t.test('a condition that throws is polled again', async t => {
  let polls = 0
  const value = await waitFor('no error', () => {
    polls += 1
    if (polls < 3) throw new Error('not yet')
    return polls
  })
  t.equal(value, 3)
})

t.test('a wait that fails names its purpose, the last error and the explanation', async t => {
  const failing = (condition: () => false): Promise<unknown> =>
    waitFor('rain', condition, { timeoutMs: 20, everyMs: 5, explain: () => 'the sky is blue' })
  await t.rejects(
    failing(() => {
      throw new Error('no cloud')
    }),
    { message: /^not within 20 ms \(\d+ ms elapsed\): rain: no cloud\nthe sky is blue$/ }
  )
  await t.rejects(
    failing(() => false),
    { message: /elapsed\): rain\nthe sky is blue$/ }
  )
})

t.test('polling slows down during a long wait, unless an interval is given', async t => {
  const count = async (options: { everyMs?: number }): Promise<number> => {
    let polls = 0
    await t.rejects(waitFor('never', () => ++polls < 0, { timeoutMs: 200, ...options }))
    return polls
  }
  const [growing, fixed] = await Promise.all([count({}), count({ everyMs: 4 })])
  t.ok(growing * 3 < fixed, `${growing} and ${fixed} polls`)
})

t.test('a state is awaited by the fields that matter, and an error shows the difference', async t => {
  let members = 0
  const read = async (): Promise<object> => ({ ready: true, members: { alive: ++members } })
  t.strictSame(await waitForState('two members', read, { members: { alive: 2 } }), {
    ready: true,
    members: { alive: 2 }
  })
  const never = waitForState('no members', read, { members: { alive: 0 } }, { timeoutMs: 20 })
  await t.rejects(never, { message: /no members: [^]*alive: 0/ })
})
