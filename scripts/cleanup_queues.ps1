# Deletes queues and exchanges: the same as `rabbitproof cleanup`, from a checkout.
#   cleanup_queues.ps1 -All | -Exchanges | -Queue a,b   [-DryRun] [-Yes] [other options of it]
param(
    [switch]$All,
    [switch]$Exchanges,
    [string[]]$Queue = @(),
    [switch]$DryRun,
    [switch]$Yes,
    [Parameter(ValueFromRemainingArguments = $true)][string[]]$Rest = @()
)
$root = Split-Path -Parent $PSScriptRoot
$python = Join-Path $root '.venv\Scripts\python.exe'
if (-not (Test-Path $python)) { $python = 'python' }
$env:PYTHONPATH = Join-Path $root 'src'
$arguments = @('-m', 'rabbitproof', 'cleanup')
if ($All) { $arguments += 'all' }
if ($Exchanges) { $arguments += 'exchanges' }
foreach ($name in $Queue -split ',') { if ($name) { $arguments += "--queue=$name" } }
if ($DryRun) { $arguments += '--dry-run' }
if ($Yes) { $arguments += '--yes' }
& $python @arguments @Rest
exit $LASTEXITCODE
