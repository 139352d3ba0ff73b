import { getPriority } from 'node:os'
import t from 'tap'
import { sessionOf } from '../lab/session.ts'
import { waitFor } from '../lab/wait.ts'
import { Background, execute } from './execute.ts'

t.test('a program’s output and exit code are returned', async t => {
  t.strictSame(await execute('sh', ['-c', 'echo said; exit 3']), { code: 3, output: 'said\n' })
  await t.rejects(execute('no-such-program', []), { code: 'ENOENT' })
})

t.test(
  'background programs and their children have the lowest priority until they are raised',
  { skip: process.getuid?.() === 0 ? false : 'needs root to raise priorities' },
  async t => {
    const background = new Background()
    const done = background.execute('sh', ['-c', 'sleep 0.2; sleep 60 & wait'])
    const { pids } = background
    const [leader] = await waitFor('it runs', () => pids().length > 0 && pids())
    const priorities = (): number[] => sessionOf(leader ?? 0).map(pid => getPriority(pid))
    await waitFor('all of it is low', () => priorities().length > 1 && priorities().every(nice => nice === 19))
    background.raise()
    t.ok(priorities().every(nice => nice === 0))
    background.kill()
    t.match(await done, { code: 1 })
    t.strictSame(pids(), [])
  }
)
