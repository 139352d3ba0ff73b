import t from 'tap'
import { KeyedSerial, Serial } from '#platform/serial.ts'

type Task = { readonly run: () => Promise<string>; readonly end: (err?: Error) => void }

/** A task that runs until `end` is called, and logs its start and end. */
function task(name: string, notes: string[]): Task {
  const { promise, resolve, reject } = Promise.withResolvers<string>()
  const run = async (): Promise<string> => {
    notes.push(`+${name}`)
    try {
      return await promise
    } finally {
      notes.push(`-${name}`)
    }
  }
  return { run, end: err => (err === undefined ? resolve(name) : reject(err)) }
}

const turn = (): Promise<void> => new Promise(resolve => setImmediate(resolve))

t.test('tasks run one after the other, in call order', async t => {
  const [serial, notes]: [Serial, string[]] = [new Serial(), []]
  const [a, b, c] = [task('a', notes), task('b', notes), task('c', notes)]
  const results = [a, b, c].map(({ run }) => serial.run(run))
  c.end()
  b.end()
  await turn()
  t.same(notes, ['+a'], 'the first task has not ended')
  a.end()
  t.same(await Promise.all(results), ['a', 'b', 'c'])
  t.same(notes, ['+a', '-a', '+b', '-b', '+c', '-c'])
})

t.test('a task that rejects or throws does not affect the others', async t => {
  const [serial, notes]: [Serial, string[]] = [new Serial(), []]
  const a = task('a', notes)
  const failing = serial.run(a.run)
  const throwing = serial.run(() => {
    throw new Error('at once')
  })
  const last = serial.run(() => Promise.resolve('last'))
  a.end(new Error('later'))
  await t.rejects(failing, { message: 'later' })
  await t.rejects(throwing, { message: 'at once' })
  t.equal(await last, 'last')
})

t.test('a task may queue another one without a deadlock', async t => {
  const serial = new Serial()
  let inner: Promise<string> | undefined
  await serial.run(async () => {
    inner = serial.run(() => Promise.resolve('inner'))
  })
  t.equal(await inner, 'inner')
})

t.test('tasks of one key run one after the other, tasks of different keys concurrently', async t => {
  const [keyed, notes]: [KeyedSerial, string[]] = [new KeyedSerial(), []]
  const [a1, a2, b1] = [task('a1', notes), task('a2', notes), task('b1', notes)]
  const results = [keyed.run('a', a1.run), keyed.run('a', a2.run), keyed.run('b', b1.run)]
  await turn()
  t.same(notes, ['+a1', '+b1'])
  a1.end()
  a2.end()
  b1.end()
  t.same(await Promise.all(results), ['a1', 'a2', 'b1'])
  t.equal(notes.indexOf('+a2') > notes.indexOf('-a1'), true)
})

t.test('a failed task leaves its key usable, and property names of Object are ordinary keys', async t => {
  const keyed = new KeyedSerial()
  for (const key of ['a', '__proto__', 'constructor', '']) {
    await t.rejects(
      keyed.run(key, () => Promise.reject(new Error('no'))),
      { message: 'no' }
    )
    await t.rejects(
      keyed.run(key, () => {
        throw new Error('at once')
      }),
      { message: 'at once' }
    )
    t.equal(await keyed.run(key, () => Promise.resolve(key)), key)
  }
})

t.test('a task queued while another waits does not overtake it', async t => {
  const [keyed, notes]: [KeyedSerial, string[]] = [new KeyedSerial(), []]
  const tasks = [task('1', notes), task('2', notes), task('3', notes)]
  const [one, two, three] = tasks
  if (one === undefined || two === undefined || three === undefined) throw new Error('no tasks')
  const first = keyed.run('a', one.run)
  const second = keyed.run('a', two.run)
  one.end()
  await first
  const third = keyed.run('a', three.run)
  await turn()
  t.same(notes, ['+1', '-1', '+2'], 'the third task does not overtake')
  two.end()
  three.end()
  t.same(await Promise.all([second, third]), ['2', '3'])
  t.same(notes, ['+1', '-1', '+2', '-2', '+3', '-3'])
})
