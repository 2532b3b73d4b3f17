// Builds dist/: `npm run build`, or `build({ quiet: true })` from the demo and the tests.
import { spawnSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import * as esbuild from 'esbuild'
import { minify } from 'terser'

const root = dirname(fileURLToPath(import.meta.url))
const path = (...parts) => join(root, ...parts)
const readJson = (...parts) => JSON.parse(readFileSync(path(...parts), 'utf8'))

const { name, version, license, dependencies, peerDependencies } = readJson('package.json')

/** What every bundle has in common. */
export const common = {
  absWorkingDir: root,
  bundle: true,
  charset: 'utf8',
  format: 'esm',
  // The browsers of the last two years.
  target: ['chrome120', 'firefox121', 'safari17'],
  // workbox-window's `main` is a UMD file whose names Node cannot import, and its `module` is ES5
  // of twice the size. The file that both Node and browsers can use has to be named.
  alias: { 'workbox-window': 'workbox-window/build/workbox-window.prod.mjs' },
  // How Workbox notes its version, for nobody here: `self['workbox:window:7.4.0'] && _()`.
  pure: ['_'],
  logLevel: 'warning',
}

const banner = (...included) => {
  const parts = included.map((dependency) => {
    const { version, license } = readJson('node_modules', dependency, 'package.json')
    return `${dependency} ${version} (${license})`
  })
  const all = parts.length > 0 ? ` | includes ${parts.join(', ')}: THIRD-PARTY-LICENSES.txt` : ''
  return { js: `/*! ${name} ${version} | ${license}${all} */` }
}

/** For bundlers: dependencies stay imports. */
const modules = {
  ...common,
  banner: banner(),
  external: Object.keys({ ...dependencies, ...peerDependencies }),
  sourcemap: true,
}

/** For browsers as it is: everything in one file. */
const standalone = { ...common, minify: true, sourcemap: true }

/** Minifies once more: terser finds about 5 % that esbuild leaves. */
export const squeeze = (code, options = {}) =>
  minify(code, {
    ecma: 2020,
    compress: {
      // `typeof a === 'b'` is more often the same text as elsewhere than `'b' === typeof a`.
      lhs_constants: false,
      passes: 3,
      pure_getters: true,
      // `Error()` for `new Error()` and `'' + a` for `String(a)`; and symbols need no names.
      unsafe: true,
      unsafe_arrows: true,
      unsafe_symbols: true,
    },
    format: { comments: /^!/ },
    ...options,
  })

const squeezeFile = async ({ outfile, format }) => {
  const map = `${outfile}.map`
  const { code, map: squeezed } = await squeeze(readFileSync(path(outfile), 'utf8'), {
    module: format === 'esm',
    sourceMap: { content: readFileSync(path(map), 'utf8'), url: basename(map) },
  })
  writeFileSync(path(outfile), code)
  writeFileSync(path(map), squeezed)
}

const bundles = [
  {
    ...modules,
    entryPoints: { index: 'src/index.ts', testing: 'src/testing.ts' },
    outdir: 'dist',
    // One `TokenError` in both files, so that `instanceof` holds in tests of an app.
    splitting: true,
    chunkNames: 'page-shared',
  },
  {
    ...modules,
    entryPoints: { worker: 'sw/index.ts', workbox: 'sw/workbox.ts' },
    outdir: 'dist',
  },
  {
    ...standalone,
    banner: banner('comlink', 'workbox-window'),
    entryPoints: ['src/index.ts'],
    outfile: 'dist/page.standalone.js',
  },
  {
    ...standalone,
    banner: banner('comlink', 'idb', 'oauth4webapi'),
    entryPoints: ['sw/index.ts'],
    format: 'iife',
    globalName: 'tokenward',
    outfile: 'dist/worker.classic.js',
  },
]

const outputs = [
  'dist/index.js',
  'dist/testing.js',
  'dist/worker.js',
  'dist/workbox.js',
  'dist/worker.classic.js',
  'dist/page.standalone.js',
  'dist/THIRD-PARTY-LICENSES.txt',
]

const declarations = [
  'dist/types/src/index.d.ts',
  'dist/types/src/testing.d.ts',
  'dist/types/sw/index.d.ts',
  'dist/types/sw/workbox.d.ts',
]

const sources = () =>
  ['src', 'sw']
    .flatMap((folder) => readdirSync(path(folder), { recursive: true }).map((f) => join(folder, f)))
    .concat('package.json', 'package-lock.json', 'tsconfig.json', 'esbuild.config.mjs')

/** Runs `make` unless what it made before is there and newer than every source. */
const upToDate = async (what, files, make) => {
  const stamp = path('.cache', `${what}.built`)
  const newest = Math.max(...sources().map((file) => statSync(path(file)).mtimeMs))
  if (
    files.every((file) => existsSync(path(file))) &&
    existsSync(stamp) &&
    statSync(stamp).mtimeMs > newest
  ) {
    return false
  }
  const start = new Date()
  await make()
  mkdirSync(dirname(stamp), { recursive: true })
  writeFileSync(stamp, '')
  // What is saved while we build is newer than the build.
  utimesSync(stamp, start, start)
  return true
}

const makeBundles = async () => {
  for (const file of existsSync(path('dist')) ? readdirSync(path('dist')) : []) {
    if (file !== 'types') rmSync(path('dist', file))
  }
  await Promise.all(bundles.map((options) => esbuild.build(options)))
  await Promise.all(bundles.filter(({ minify }) => minify).map(squeezeFile))
  const licenses = Object.keys(dependencies).map((dependency) => {
    const folder = path('node_modules', dependency)
    const file = readdirSync(folder).find((entry) => entry.startsWith('LICENSE')) ?? 'LICENSE'
    const text = readFileSync(join(folder, file), 'utf8').trim()
    return `${dependency}\n${'='.repeat(dependency.length)}\n\n${text}\n`
  })
  writeFileSync(path('dist', 'THIRD-PARTY-LICENSES.txt'), licenses.join('\n\n'))
}

const makeTypes = () => {
  // tsc takes its own notes for the files they tell of, and does not notice that those are gone.
  if (declarations.some((file) => !existsSync(path(file)))) {
    rmSync(path('dist', 'types'), { recursive: true, force: true })
  }
  const tsc = path('node_modules', 'typescript', 'bin', 'tsc')
  const { status } = spawnSync(process.execPath, [tsc, '-b', 'src', 'sw'], {
    cwd: root,
    stdio: 'inherit',
  })
  if (status !== 0) throw new Error('The types do not compile (tsc -b src sw).')
}

/**
 * Brings dist/ up to date; does nothing where it is.
 *
 * @param {{ quiet?: boolean, types?: boolean }} [options] `types: false` leaves out the
 * declarations, which only a package needs.
 */
export const build = async ({ quiet = false, types = true } = {}) => {
  const start = performance.now()
  const built = await upToDate('bundles', outputs, makeBundles)
  const typed = types && (await upToDate('types', declarations, makeTypes))
  if (quiet) return
  if (!built && !typed) return console.log('dist/ is up to date')
  for (const file of outputs) {
    const size = (statSync(path(file)).size / 1000).toFixed(1)
    console.log(`${file.padEnd(32)} ${size.padStart(6)} kB`)
  }
  console.log(`built in ${((performance.now() - start) / 1000).toFixed(1)} s`)
}

if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  await build().catch((error) => {
    // esbuild and tsc have said what is wrong by then.
    if (!error.errors) console.error(error.message)
    process.exitCode = 1
  })
}
