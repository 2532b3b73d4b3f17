// `npm run size`: what an app's users download, everything included, minified and gzipped.
import { createHash } from 'node:crypto'
import {
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'
import * as esbuild from 'esbuild'
import { build, common, squeeze } from '../esbuild.config.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))

const apps = [
  {
    title: 'page: createTokenManager',
    budget: 7.1,
    code: `import { createTokenManager } from './src/index.ts'
      createTokenManager('/sw.js')`,
  },
  {
    title: 'worker: createTokenWorker, default options',
    budget: 33,
    code: `import { createTokenWorker } from './sw/index.ts'
      createTokenWorker({ issuer: 'https://login.example.com', clientId: 'app', apis: ['/api/'] })
        .listen({ claim: true })`,
  },
  {
    title: 'worker: createTokenWorker, every option',
    budget: 35.8,
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
    stdin: { contents: code, resolveDir: root },
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
  const minified = outputFiles[0].text
  const kb = gzippedKb(minified)
  const { code: squeezed } = await squeeze(minified, { module: true })
  // gzip knows no parts: each gets its share of the whole by its minified bytes.
  const parts = Object.entries(bytes)
    .map(([name, part]) => ({ name, kb: (kb * part) / total }))
    .sort((a, b) => b.kb - a.kb)
  return { title, budget, kb, squeezedKb: gzippedKb(squeezed), parts }
}

/** `tokenward-worker.js` of the quick start, which the build has squeezed. */
const measureClassic = async () => {
  await build({ quiet: true, types: false })
  const text = readFileSync(join(root, 'dist', 'worker.classic.js'), 'utf8')
  return { title: 'tokenward-worker.js, as downloaded', squeezedKb: gzippedKb(text), parts: [] }
}

/**
 * @typedef {object} Size
 * @property {string} title
 * @property {number} [budget] In kB, for `kb`; a file without one is only stated
 * @property {number} [kb] Minified by esbuild, as other libraries are measured, and gzipped;
 *   missing for a file that is downloaded as it is
 * @property {number} squeezedKb Minified by terser as well, and gzipped
 * @property {{ name: string, kb: number }[]} parts
 */

/** One hash of all that the sizes depend on: the sources, the tools and this file. */
const hashOfSources = () => {
  const hash = createHash('sha256')
  const sources = ['src', 'sw'].flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath ?? entry.path, entry.name)),
  )
  const tools = ['package-lock.json', 'esbuild.config.mjs', 'test/size.mjs']
  for (const file of [...sources.sort(), ...tools.map((file) => join(root, file))]) {
    hash.update(`${file}\0`).update(readFileSync(file)).update('\0')
  }
  return hash.digest('hex')
}

const cache = join(root, '.cache', 'sizes.json')

const readCache = () => {
  try {
    return JSON.parse(readFileSync(cache, 'utf8'))
  } catch {
    return undefined
  }
}

/** Other steps may read it at the same time, so it appears whole. */
const writeCache = (entry) => {
  mkdirSync(dirname(cache), { recursive: true })
  const unfinished = `${cache}.${process.pid}`
  writeFileSync(unfinished, JSON.stringify(entry))
  renameSync(unfinished, cache)
}

/**
 * Sizes against the budgets of the README. Measured once for the same sources, since several tests
 * and `npm run size` ask for them.
 *
 * @returns {Promise<Size[]>}
 */
export const measure = async () => {
  const hash = hashOfSources()
  const known = readCache()
  if (known?.hash === hash) return known.sizes
  const sizes = await Promise.all([...apps.map(measureApp), measureClassic()])
  writeCache({ hash, sizes })
  return sizes
}

if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const number = (kb) => (kb === undefined ? '' : kb.toFixed(1)).padStart(9)
  const row = (name, { kb, squeezedKb }, rest = '') =>
    console.log(`${name.padEnd(44)}${number(kb)}${number(squeezedKb)}${rest}`)
  console.log(`${'kB, gzip -9'.padEnd(44)}${'esbuild'.padStart(9)}${'+ terser'.padStart(9)}`)
  for (const size of await measure()) {
    const { title, budget, kb, parts } = size
    const fits = budget === undefined || kb <= budget
    const verdict = fits ? '' : `: ${(kb - budget).toFixed(1)} kB TOO BIG`
    row(title, size, budget === undefined ? '' : `  of ${budget} kB${verdict}`)
    for (const part of parts) row(`  ${part.name}`, part)
    if (!fits) process.exitCode = 1
  }
}
