import t from 'tap'
import { OrderedWork } from '#zmq/ordered-work.ts'

/** Work with tasks that end on demand, and a log of what started and ended. */
function scripted(bounds = { maxTasks: 100, maxBytes: 1_000 }) {
  const work = new OrderedWork(bounds)
  const notes: string[] = []
  const enders = new Map<string, () => void>()
  const add = (name: string, key: string | null, bytes = 1): boolean =>
    work.add({
      key,
      bytes,
      run: () => {
        notes.push(`+${name}`)
        return new Promise(resolve => {
          enders.set(name, () => {
            notes.push(`-${name}`)
            resolve()
          })
        })
      }
    })
  const turn = (): Promise<void> => new Promise(resolve => setImmediate(resolve))
  const end = async (name: string): Promise<void> => {
    enders.get(name)?.()
    await turn()
  }
  return { work, notes, add, end, turn }
}

t.test('requests for one container run in order, for two containers concurrently', async t => {
  const { notes, add, end, turn } = scripted()
  add('a1', 'a')
  add('a2', 'a')
  add('b1', 'b')
  await turn()
  t.same(notes, ['+a1', '+b1'])
  await end('a1')
  t.same(notes, ['+a1', '+b1', '-a1', '+a2'])
  await end('a2')
  await end('b1')
})

t.test('a request about a network is a barrier', async t => {
  const { notes, add, end, turn } = scripted()
  add('a', 'a')
  add('net', null)
  add('b', 'b')
  add('a2', 'a')
  await turn()
  t.same(notes, ['+a'])
  await end('a')
  t.same(notes, ['+a', '-a', '+net'])
  await end('net')
  t.same(notes, ['+a', '-a', '+net', '-net', '+b', '+a2'])
  await end('b')
  await end('a2')
})

t.test('tasks beyond the limits are refused until others end', async t => {
  const { work, add, end, turn } = scripted({ maxTasks: 2, maxBytes: 10 })
  t.ok(add('a', 'a', 4))
  t.notOk(add('too large', 'b', 7))
  t.ok(add('b', 'b', 6))
  t.notOk(add('too many', 'c', 0))
  await turn()
  await end('a')
  t.ok(add('c', 'c', 4))
  await turn()
  await end('b')
  await end('c')
  t.equal(work.size, 0)
})

t.test('settled waits for all tasks added before', async t => {
  const { work, notes, add, end, turn } = scripted()
  add('net', null)
  add('a', 'a')
  let settled = false
  const done = work.settled().then(() => (settled = true))
  await turn()
  await end('net')
  t.notOk(settled)
  await end('a')
  await done
  t.same(notes, ['+net', '-net', '+a', '-a'])
})

t.test('below resolves once enough of the work is done, and at once when little is in progress', async t => {
  const work = new OrderedWork({ maxTasks: 10, maxBytes: 100 })
  const gates = [Promise.withResolvers<undefined>(), Promise.withResolvers<undefined>()]
  for (const [n, gate] of gates.entries()) work.add({ key: `${n}`, bytes: 40, run: () => gate.promise })
  await work.below(81)
  let isBelow = false
  const waiting = work.below(41).then(() => (isBelow = true))
  await new Promise(resolve => setImmediate(resolve))
  t.notOk(isBelow)
  gates[0]?.resolve(undefined)
  await waiting
  gates[1]?.resolve(undefined)
  await work.settled()
  await work.below(1)
  t.equal(work.size, 0)
})
