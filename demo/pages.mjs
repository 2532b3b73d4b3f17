// What of public/ needs a bundler: the demo's page code, and its Workbox worker.

import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import * as esbuild from 'esbuild'
import { common } from '../esbuild.config.mjs'

// What the Workbox variant can show offline.
const SHELL = ['/workbox/index.html', '/workbox/main.js', '/style.css', '/env.js']

/** @returns {Promise<Map<string, string>>} The bundles by their path in the site */
export async function bundlePages() {
  const pages = await bundle(['main.js', 'workbox/main.js'])
  const manifest = await createManifest(SHELL, pages)
  const workers = await bundle(['workbox/sw.js'], {
    format: 'iife',
    define: {
      'process.env.NODE_ENV': '"production"',
      'self.__WB_MANIFEST': JSON.stringify(manifest),
    },
  })
  return new Map([...pages, ...workers])
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
