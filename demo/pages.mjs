// What of public/ needs a bundler: the demo's page code, and the workers with Workbox in them.

import { createHash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import * as esbuild from 'esbuild'
import { common } from '../esbuild.config.mjs'

/**
 * The apps that work offline, and what of each that takes: its folder without what nobody sees,
 * and these. The worker is the one file that is never kept.
 */
const SHARED = ['/style.css', '/env.js']
const APPS = ['workbox', 'notes']
const SHELL_FILE = /\.(?:html|css|png|webmanifest)$|\/icon\.svg$/

/** @returns {Promise<Map<string, string>>} The bundles by their path in the site */
export async function bundlePages() {
  const pages = await bundle(['main.js', ...APPS.map((app) => `${app}/main.js`)])
  const workers = await Promise.all(APPS.map((app) => bundleWorker(app, pages)))
  return new Map([...pages, ...workers.flatMap((files) => [...files])])
}

/** @param {string} app @param {Map<string, string>} pages */
async function bundleWorker(app, pages) {
  const manifest = await createManifest([...(await listShell(app)), ...SHARED], pages)
  return bundle([`${app}/sw.js`], {
    format: 'iife',
    define: {
      'process.env.NODE_ENV': '"production"',
      'self.__WB_MANIFEST': JSON.stringify(manifest),
    },
  })
}

/** @param {string} app */
async function listShell(app) {
  const files = (await readdir(`${common.absWorkingDir}/public/${app}`)).sort()
  return [
    ...files.map((file) => `/${app}/${file}`).filter((path) => SHELL_FILE.test(path)),
    `/${app}/main.js`,
  ]
}

/** @param {string[]} files @param {import('esbuild').BuildOptions} [options] */
async function bundle(files, options) {
  const { outputFiles = [] } = await esbuild.build({
    ...common,
    // dist/ has been through it.
    alias: {},
    entryPoints: files.map((file) => `public/${file}`),
    outbase: 'public',
    outdir: '/',
    write: false,
    sourcemap: 'inline',
    ...options,
  })
  return new Map(outputFiles.map(({ path, text }) => [sitePath(path), text]))
}

/** esbuild gives absolute paths, on Windows with a drive. @param {string} path */
function sitePath(path) {
  return path.replaceAll('\\', '/').replace(/^[a-z]:/i, '')
}

/** What workbox-build would inject. @param {string[]} paths @param {Map<string, string>} built */
async function createManifest(paths, built) {
  const revisionOf = async (/** @type {string} */ path) => {
    // It is made when the demo starts, with the ports in it: a new one each time.
    if (path === '/env.js') return String(Date.now())
    const content = built.get(path) ?? (await readFile(`${common.absWorkingDir}/public${path}`))
    return createHash('sha256').update(content).digest('hex').slice(0, 16)
  }
  return Promise.all(paths.map(async (url) => ({ url, revision: await revisionOf(url) })))
}
