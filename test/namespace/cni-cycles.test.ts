import t from 'tap'
import { runCycles } from '../cni/cycles.ts'
import { CHAOS_IN_FULL, CHAOS_TIMEOUT } from '../lab/chaos.ts'
import { cannotRun } from '../lab/requirements.ts'

const CYCLES = CHAOS_IN_FULL ? 2_000 : 120

t.test(
  'pods that start and stop while plugin and agent are killed leave nothing',
  { skip: cannotRun(), timeout: CHAOS_TIMEOUT },
  async t => {
    const report = await runCycles({ cycles: CYCLES, lanes: 6, seed: 7 })
    t.same(report.leaks, [], JSON.stringify(report))
    t.ok(report.pluginKills > 0 && report.agentKills > 0 && report.forgotten > 0, JSON.stringify(report))
  }
)
