// `npm run size`: what an app's users download, everything included, minified and gzipped.
import { realpathSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'
import * as esbuild from 'esbuild'
import { common, squeeze } from '../esbuild.config.mjs'

const apps = [
  {
    title: 'page: createTokenManager',
    budget: 6,
    code: `import { createTokenManager } from './src/index.ts'
      createTokenManager('/sw.js')`,
  },
  {
    title: 'worker: createTokenWorker, default options',
    budget: 28.5,
    code: `import { createTokenWorker } from './sw/index.ts'
      createTokenWorker({ issuer: 'https://login.example.com', clientId: 'app', apis: ['/api/'] })
        .listen({ claim: true })`,
  },
  {
    title: 'worker: createTokenWorker, every option',
    budget: 31,
    code: `import { createTokenWorker, dpop, jwks, staticRoutes } from './sw/index.ts'
      createTokenWorker({
        issuer: 'https://login.example.com', clientId: 'app', apis: ['/api/'],
        dpop: dpop(), idTokenSignature: jwks(),
      }).listen({ claim: true, staticRoutes: staticRoutes() })`,
  },
]

/** kB as everywhere on the web: 1000 bytes. */
const gzippedKb = (text) => gzipSync(text, { level: 9 }).length / 1000

const packageOf = (input) =>
  input.match(/^.*node_modules\/((?:@[^/]+\/)?[^/]+)/)?.[1] ?? 'tokenward itself'

const measureApp = async ({ title, budget, code }) => {
  const { outputFiles, metafile } = await esbuild.build({
    ...common,
    stdin: { contents: code, resolveDir: fileURLToPath(new URL('..', import.meta.url)) },
    minify: true,
    metafile: true,
    write: false,
    legalComments: 'none',
  })
  const bytes = {}
  for (const { inputs } of Object.values(metafile.outputs)) {
    for (const [input, { bytesInOutput }] of Object.entries(inputs)) {
      bytes[packageOf(input)] = (bytes[packageOf(input)] ?? 0) + bytesInOutput
    }
  }
  const total = Object.values(bytes).reduce((sum, part) => sum + part, 0)
  const { code: smallest } = await squeeze(outputFiles[0].text, { module: true })
  const kb = gzippedKb(smallest)
  // gzip knows no parts: each gets its share of the whole by its minified bytes.
  const parts = Object.entries(bytes)
    .map(([name, part]) => ({ name, kb: (kb * part) / total }))
    .sort((a, b) => b.kb - a.kb)
  return { title, budget, kb, parts }
}

/** Sizes in kB (gzip) against the budgets of the README. */
export const measure = () => Promise.all(apps.map(measureApp))

if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const row = (name, kb, rest = '') => console.log(`${name.padEnd(46)}${kb.toFixed(1)} kB${rest}`)
  for (const { title, budget, kb, parts } of await measure()) {
    const left = kb <= budget ? '' : `: ${(kb - budget).toFixed(1)} kB TOO BIG`
    row(title, kb, ` gzip, of ${budget} kB${left}`)
    for (const part of parts) row(`  ${part.name}`, part.kb)
    if (left) process.exitCode = 1
  }
}
