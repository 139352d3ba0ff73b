import { simulateHosts } from './host-world.ts'
const [a, b] = process.argv.slice(2).map(Number)
for (let s = a ?? 1; s <= (b ?? a ?? 1); s++) {
  const t0 = performance.now()
  const r = await simulateHosts(s)
  console.log(s, r.violation, r.events, r.committed, r.acknowledged, r.traceHash, Math.round(performance.now() - t0), JSON.stringify(r.probes.counts))
}
